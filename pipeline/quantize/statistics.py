"""What calibration saw: two tables sealed with the checkpoint, a few totals, and metrics to look at.

All of it follows from the records of the layers, so a resumed run tells what an uninterrupted one tells.

A *position* is a row of hidden states: a token, or the padding beside it. Both go through router and
experts and both count for an amax, here as in ModelOpt; with `batch_size=1` there is no padding, and every
position is a token. An expert is *cold* when the router sent it no position at all.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.calibration.batches import Batch

COVERAGE = "calibration_coverage.csv"
AMAX = "calibration_amax.csv"


@dataclass(frozen=True)
class Experts:
    """The experts of one block: the positions that each saw, int64 [experts]."""

    layer: int
    block: str
    routed: np.ndarray
    forced: np.ndarray


@dataclass(frozen=True)
class Found:
    """What calibration found in all layers.

    `measured` float64 [quantizers, marks] is each quantizer's amax after `samples[mark]` samples, 0 before
    anything reached it; `exported` float64 [quantizers] the amax that its scale was made from, which differs
    from the last measured one where quantizers share theirs.
    """

    samples: list[int]
    positions: int
    experts: list[Experts]
    layers: np.ndarray
    names: list[str]
    measured: np.ndarray
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
        Experts(layer, block, np.array(routed, np.int64), np.array(record["forced"][block], np.int64))
        for layer, record in enumerate(records)
        for block, routed in sorted(record["routed"].items())
    ]
    return Found(
        samples=samples,
        positions=sum(batch.input_ids.size for batch in batches),
        experts=experts,
        layers=np.repeat(np.arange(len(records)), [len(record["quantizers"]) for record in records]),
        names=[name for record in records for name in record["quantizers"]],
        measured=np.concatenate([np.array(record["curve"]).T for record in records]),
        exported=np.array([value for record in records for value in record["amax"]]),
    )


def write(folder: Path, found: Found) -> list[Path]:
    """Write the tables: one row an expert, if there are any, and one row a quantizer; returns their paths.

    An amax is written with as many digits as tell it from every other float.
    """
    tables = [folder / AMAX]
    header = ["layer", "quantizer", *(f"amax@{count}" for count in found.samples), "exported_amax"]
    values = zip(
        found.layers.tolist(), found.names, found.measured.tolist(), found.exported.tolist(), strict=True
    )
    _write(tables[0], header, [[layer, name, *curve, last] for layer, name, curve, last in values])
    if found.experts:
        tables.append(folder / COVERAGE)
        header = ["layer", "block", "expert", "routed_positions", "forced_positions", "cold"]
        rows = [
            [block.layer, block.block, expert, routed, forced, int(routed == 0)]
            for block in found.experts
            for expert, (routed, forced) in enumerate(
                zip(block.routed.tolist(), block.forced.tolist(), strict=True)
            )
        ]
        _write(tables[1], header, rows)
    return tables


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


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
        routed = np.concatenate([np.array(counts, np.int64) for counts in record["routed"].values()])
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
