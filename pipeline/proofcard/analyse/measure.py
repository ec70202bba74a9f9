"""The numbers: five questions, a function each, from tables and manifest to the parts of an `Analysis`.

A *part* is an amax divided by the last measured one: 1 where nothing was missing. A quantizer that nothing
reached counts nowhere.
"""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from proofcard.checkpoint.roles import CALIBRATED
from proofcard.checkpoint.tensors import BITS
from proofcard.documents.analysis import (
    CalibratedBytes,
    Counted,
    DatasetPart,
    Forcing,
    LayerSpread,
    Mark,
    Nearness,
    Routed,
    Spread,
    Unreached,
)
from proofcard.documents.manifest import TensorEntry
from proofcard.quantize.metrics import quantizer_groups, share_of_last
from proofcard.quantize.statistics import CalibrationStatistics

THRESHOLDS = (100, 1_000, 10_000, 100_000)
"""Tokens an expert after which the card calls an amax noisy, rough, settled and perfect."""


def convergence(found: CalibrationStatistics) -> dict[str, list[Mark]]:
    """By group of quantizers and mark: how many had their last amax, or were near it."""
    part = share_of_last(found)
    return {
        title: [
            Mark(samples=count, **_nearness(part[chosen, mark])) for mark, count in enumerate(found.samples)
        ]
        for title, chosen in quantizer_groups(found)
    }


def datasets(found: CalibrationStatistics) -> list[DatasetPart]:
    """What each dataset alone would have given, and how many of all amaxes none of the others reaches."""
    last = found.measured[:, -1:]
    sets = (found.of_dataset == last) & (last > 0)
    part = np.divide(found.of_dataset, last, out=np.full_like(found.of_dataset, np.nan), where=last > 0)
    parts = []
    for column, name in enumerate(found.datasets):
        routed = np.concatenate([block.by_dataset[column] for block in found.experts] or [np.array([])])
        parts.append(
            DatasetPart(
                dataset=name,
                sets=int(sets[:, column].sum()),
                sets_alone=int((sets[:, column] & (sets.sum(axis=1) == 1)).sum()),
                near={
                    title: Nearness(**_nearness(part[chosen, column]))
                    for title, chosen in quantizer_groups(found)
                },
                routed=int(routed.sum()) if routed.size else None,
                cold=int((routed == 0).sum()) if routed.size else None,
                smallest=int(routed.min()) if routed.size else None,
            )
        )
    return parts


def coverage(found: CalibrationStatistics) -> Spread | None:
    """How the routers spread the positions over experts; None without experts."""
    if not found.experts:
        return None
    routed = np.concatenate([block.routed for block in found.experts])
    mean = float(routed.mean())
    tenth = float(np.percentile(routed, 10))
    return Spread(
        experts=routed.size,
        positions=found.positions,
        mean=mean,
        smallest=int(routed.min()),
        tenth_percentile=tenth,
        median=float(np.median(routed)),
        largest=int(routed.max()),
        mean_over_smallest=_over(mean, float(routed.min())),
        mean_over_tenth_percentile=_over(mean, tenth),
        largest_over_mean=float(routed.max()) / mean,
        zipf=float(np.mean([_slope(block.routed) for block in found.experts])),
        below={str(limit): int((routed < limit).sum()) for limit in THRESHOLDS},
        layers=[
            LayerSpread(
                layer=block.layer,
                smallest=int(block.routed.min()),
                median=float(np.median(block.routed)),
                largest=int(block.routed.max()),
                cold=int((block.routed == 0).sum()),
            )
            for block in found.experts
        ],
    )


def forcing(found: CalibrationStatistics) -> Forcing | None:
    """What forced tokens added to what the router sent, and to those it had sent how many; None without."""
    if not any(block.forced.any() for block in found.experts):
        return None
    part, seen = natural_part(found), routed_of(found)
    inside = seen >= 0
    edges = (0, *THRESHOLDS, np.inf)
    chosen = [(title, mask & inside) for title, mask in quantizer_groups(found) if (mask & inside).any()]
    return Forcing(
        near={
            title: Unreached(unreached=int((part[mask] == 0).sum()), **_nearness(part[mask]))
            for title, mask in chosen
        },
        by_routed={
            title: [
                Routed(**{"from": int(low)}, **_nearness(part[here]))
                for low, high in pairwise(edges)
                if (here := mask & (seen >= low) & (seen < high)).any()
            ]
            for title, mask in chosen
        },
    )


def natural_part(found: CalibrationStatistics) -> np.ndarray:
    """The natural part of each quantizer's amax, [quantizers]; NaN where nothing came at all."""
    last = found.measured[:, -1]
    return np.divide(found.natural, last, out=np.full_like(last, np.nan), where=last > 0)


def routed_of(found: CalibrationStatistics) -> np.ndarray:
    """The positions that the expert of each quantizer was sent, int64 [quantizers]; −1 outside experts."""
    counts = {
        f"{block.block}.experts.{expert}": count
        for block in found.experts
        for expert, count in enumerate(block.routed.tolist())
    }
    return np.array([counts.get(name.rsplit(".", 2)[0], -1) for name in found.names], np.int64)


def calibrated_bytes(tensors: dict[str, TensorEntry]) -> CalibratedBytes:
    """Of a manifest's tensors, the bytes that calibration decides, by kind, beside all."""
    kinds = {name: Counter[str]() for name in CALIBRATED}
    total = 0
    for name, tensor in tensors.items():
        size = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(BITS[tensor.dtype]).itemsize
        total += size
        if (kind := name.rpartition(".")[2]) in kinds:
            kinds[kind].update(tensors=1, bytes=size)
    decided = sum(counted["bytes"] for counted in kinds.values())
    return CalibratedBytes(
        kinds={name: Counted(**counted) for name, counted in kinds.items() if counted},
        bytes=decided,
        total=total,
        share=decided / total,
    )


def _nearness(part: np.ndarray) -> dict[str, Any]:
    """The fields of a `Nearness`."""
    known = part[~np.isnan(part)]
    if not known.size:
        return {"quantizers": 0}
    return {
        "quantizers": known.size,
        "equal": float((known == 1).mean()),
        "within_1_percent": float((known >= 0.99).mean()),
        "within_5_percent": float((known >= 0.95).mean()),
        "median": float(np.median(known)),
        "smallest": float(known.min()),
    }


def _slope(routed: np.ndarray) -> float:
    seen = np.sort(routed[routed > 0])[::-1]
    if seen.size < 2:
        return 0.0
    return float(np.polyfit(np.log(np.arange(1, seen.size + 1)), np.log(seen), 1)[0])


def _over(high: float, low: float) -> float | None:
    """A ratio, or None when there is nothing to divide by."""
    return high / low if low else None
