"""What calibration saw in all layers, as the sealed tables hold it.

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
