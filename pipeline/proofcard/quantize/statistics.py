"""What calibration saw: what the sealed tables hold, a few totals, and metrics to look at.

All of it follows from the records of the layers, so a resumed run tells what an uninterrupted one tells.

A *position* is a row of hidden states: a token, or the padding beside it. Both go through router and
experts and both count for an amax, here as in ModelOpt; with `batch_size=1` there is no padding, and every
position is a token. An expert is *cold* when the router sent it no position at all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from proofcard.calibration.batches import Batch, dataset_names


@dataclass(frozen=True)
class Experts:
    """The experts of one block: the positions that each saw, int64 [experts].

    `by_dataset` int64 [datasets, experts] are the routed ones again, by where they are from.
    """

    layer: int
    block: str
    routed: np.ndarray
    forced: np.ndarray
    by_dataset: np.ndarray


@dataclass(frozen=True)
class Found:
    """What calibration found in all layers, float64 where not said otherwise.

    `measured` [quantizers, marks] is each quantizer's amax after `samples[mark]` samples, 0 before anything
    reached it; `of_dataset` [quantizers, datasets] what each dataset alone would have given; `natural`
    [quantizers] what the router's own choices alone gave; `exported` [quantizers] the amax that its scale was
    made from, which differs from the last measured one where quantizers share theirs.
    """

    samples: list[int]
    positions: int
    datasets: list[str]
    experts: list[Experts]
    layers: np.ndarray
    names: list[str]
    measured: np.ndarray
    of_dataset: np.ndarray
    natural: np.ndarray
    exported: np.ndarray

    def settled(self) -> np.ndarray:
        """Whether a quantizer had its last measured amax already, bool [quantizers, marks]."""
        return (self.measured == self.measured[:, -1:]) & (self.measured > 0)

    def reached(self) -> np.ndarray:
        """The part of its last measured amax that a quantizer had, [quantizers, marks]; NaN if that is 0."""
        last = self.measured[:, -1:]
        return np.divide(self.measured, last, out=np.full_like(self.measured, np.nan), where=last > 0)

    def kinds(self) -> dict[str, np.ndarray]:
        """Which quantizers are of a kind: `input`, `k_bmm`, `v_bmm`; bool [quantizers] each."""
        each = np.array([kind(name) for name in self.names])
        return {found: each == found for found in sorted(set(each.tolist()))}


def kind(quantizer: str) -> str:
    """`input`, `k_bmm` or `v_bmm`: what a quantizer's name ends with."""
    return quantizer.rpartition(".")[2].removesuffix("_quantizer")


def gather(records: list[dict[str, Any]], batches: list[Batch], samples: list[int]) -> Found:
    """The records of all layers, put together; `samples` says after how many the amaxes were noted."""
    experts = [
        Experts(
            layer,
            block,
            np.array(routed, np.int64).sum(axis=0),
            np.array(record["forced"][block], np.int64),
            np.array(routed, np.int64),
        )
        for layer, record in enumerate(records)
        for block, routed in sorted(record["routed"].items())
    ]
    return Found(
        samples=samples,
        positions=sum(batch.input_ids.size for batch in batches),
        datasets=dataset_names(batches),
        experts=experts,
        layers=np.repeat(np.arange(len(records)), [len(record["quantizers"]) for record in records]),
        names=[name for record in records for name in record["quantizers"]],
        measured=np.concatenate([np.array(record["curve"]).T for record in records]),
        of_dataset=np.concatenate([np.array(record["datasets"]).T for record in records]),
        natural=np.array([value for record in records for value in record["natural"]]),
        exported=np.array([value for record in records for value in record["amax"]]),
    )


def totals(found: Found) -> dict[str, int]:
    """The few numbers that a manifest tells; those about experts only where there are any."""
    half = [mark for mark, count in enumerate(found.samples) if 2 * count <= found.samples[-1]]
    said = {
        "positions": found.positions,
        "amaxes": len(found.names),
        "amaxes_final_after_half": int(found.settled()[:, half[-1]].sum()) if half else 0,
    }
    if found.experts:
        routed = np.concatenate([block.routed for block in found.experts])
        forced = np.concatenate([block.forced for block in found.experts])
        said |= {"experts": routed.size, "experts_forced": int((forced > 0).sum())} | _spread(routed)
    return said


def layer_metrics(record: dict[str, Any]) -> dict[str, float]:
    """One layer's numbers: the largest amax of each kind, and how its router spread the positions."""
    said: dict[str, float] = {}
    for name, value in zip(record["quantizers"], record["amax"], strict=True):
        said[f"amax/{kind(name)}"] = max(said.get(f"amax/{kind(name)}", 0.0), value)
    if record["routed"]:
        routed = np.concatenate(
            [np.array(counts, np.int64).sum(axis=0) for counts in record["routed"].values()]
        )
        forced = np.concatenate([np.array(counts, np.int64) for counts in record["forced"].values()])
        spread = _spread(routed) | {"experts_forced": int((forced > 0).sum())}
        said |= {f"coverage/{name}": float(value) for name, value in spread.items()}
    return said


def _spread(routed: np.ndarray) -> dict[str, int]:
    """Integers, so that a manifest of them is the same everywhere: the median is the lower one."""
    inorder = np.sort(routed)
    return {
        "experts_cold": int((routed == 0).sum()),
        "routed_positions_smallest": int(inorder[0]),
        "routed_positions_median": int(inorder[(inorder.size - 1) // 2]),
        "routed_positions_largest": int(inorder[-1]),
    }


def convergence(found: Found) -> list[tuple[int, dict[str, float]]]:
    """How far each kind of quantizer was after so many samples.

    `converged/<kind>` is the share of quantizers that had their last measured amax, `relative_amax/<kind>`
    the mean part of it that they had. A quantizer that nothing reached counts in neither.
    """
    settled, reached = found.settled(), found.reached()
    points: list[tuple[int, dict[str, float]]] = []
    for mark, count in enumerate(found.samples):
        values: dict[str, float] = {}
        for name, chosen in found.kinds().items():
            known = chosen & ~np.isnan(reached[:, mark])
            if known.any():
                values[f"converged/{name}"] = float(settled[known, mark].mean())
                values[f"relative_amax/{name}"] = float(reached[known, mark].mean())
        points.append((count, values))
    return points
