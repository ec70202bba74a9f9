"""Calibration statistics of all layers, as the sealed tables hold them.

They follow from the layers' records alone, so a resumed run yields the same statistics as an uninterrupted
one.

A *position* is a row of hidden states: a token or padding. Both go through router and experts and both
count for an amax, here as in ModelOpt; with `batch_size=1` there is no padding, and every position is a
token. An expert is *cold* when the router sent it no position at all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from proofcard.calibration.batches import Batch, dataset_names


@dataclass(frozen=True)
class Experts:
    """The experts of one block: the positions that each received, int64 [experts].

    `by_dataset` int64 [datasets, experts] splits the routed ones by dataset.
    """

    layer: int
    block: str
    routed: np.ndarray
    forced: np.ndarray
    by_dataset: np.ndarray


@dataclass(frozen=True)
class CalibrationStatistics:
    """Calibration statistics of all layers, float64 unless noted.

    `measured` [quantizers, marks] is each quantizer's amax after `samples[mark]` samples, 0 before its first
    input; `of_dataset` [quantizers, datasets] the amax that each dataset alone would have given; `natural`
    [quantizers] the amax over naturally routed positions; `exported` [quantizers] the amax behind its scale,
    which differs from the last measured one where quantizers share theirs.
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


def gather(records: list[dict[str, Any]], batches: list[Batch], samples: list[int]) -> CalibrationStatistics:
    """Combine the records of all layers; amaxes were recorded after each number of samples in `samples`."""
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
    return CalibrationStatistics(
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
