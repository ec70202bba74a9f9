"""The numbers: five questions, a function each, from tables and manifest to plain values.

A *part* is an amax divided by the last measured one: 1 where nothing was missing. A quantizer that nothing
reached counts nowhere.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from proofcard.checkpoint.tensors import BITS
from proofcard.errors import Stop
from proofcard.quantize.metrics import reached
from proofcard.quantize.plots import quantizer_groups
from proofcard.quantize.statistics import Found

THRESHOLDS = (100, 1_000, 10_000, 100_000)
"""Tokens an expert after which the card calls an amax noisy, rough, settled and perfect."""
CALIBRATED = ("input_scale", "k_scale", "v_scale", "k_bias", "v_bias")
"""What tensors are called that calibration decides; all others follow from the weights."""


def convergence(found: Found) -> dict[str, list[dict[str, float]]]:
    """By group of quantizers and mark: how many had their last amax, or were near it."""
    share = reached(found)
    return {
        title: [
            {"samples": count, **_nearness(share[chosen, mark])} for mark, count in enumerate(found.samples)
        ]
        for title, chosen in quantizer_groups(found)
    }


def datasets(found: Found) -> list[dict[str, Any]]:
    """What each dataset alone would have given, and how many of all amaxes none of the others reaches.

    `near` is the part by group; `cold` and `smallest` count routed positions of experts.
    """
    last = found.measured[:, -1:]
    sets = (found.of_dataset == last) & (last > 0)
    part = np.divide(found.of_dataset, last, out=np.full_like(found.of_dataset, np.nan), where=last > 0)
    told = []
    for column, name in enumerate(found.datasets):
        routed = [block.by_dataset[column] for block in found.experts]
        told.append(
            {
                "dataset": name,
                "sets": int(sets[:, column].sum()),
                "sets_alone": int((sets[:, column] & (sets.sum(axis=1) == 1)).sum()),
                "near": {title: _nearness(part[chosen, column]) for title, chosen in quantizer_groups(found)},
            }
            | (
                {
                    "routed": int(np.concatenate(routed).sum()),
                    "cold": int((np.concatenate(routed) == 0).sum()),
                    "smallest": int(np.concatenate(routed).min()),
                }
                if routed
                else {}
            )
        )
    return told


def coverage(found: Found) -> dict[str, Any]:
    """How the routers spread the positions over experts; empty without experts.

    `zipf` is the slope of log positions over log rank, by least squares in each layer, the mean of layers.
    """
    if not found.experts:
        return {}
    routed = np.concatenate([block.routed for block in found.experts])
    mean = float(routed.mean())
    tenth = float(np.percentile(routed, 10))
    return {
        "experts": routed.size,
        "positions": found.positions,
        "mean": mean,
        "smallest": int(routed.min()),
        "tenth_percentile": tenth,
        "median": float(np.median(routed)),
        "largest": int(routed.max()),
        "mean_over_smallest": _over(mean, float(routed.min())),
        "mean_over_tenth_percentile": _over(mean, tenth),
        "largest_over_mean": float(routed.max()) / mean,
        "zipf": float(np.mean([_slope(block.routed) for block in found.experts])),
        "below": {str(limit): int((routed < limit).sum()) for limit in THRESHOLDS},
        "layers": [
            {
                "layer": block.layer,
                "smallest": int(block.routed.min()),
                "median": float(np.median(block.routed)),
                "largest": int(block.routed.max()),
                "cold": int((block.routed == 0).sum()),
            }
            for block in found.experts
        ],
    }


def forcing(found: Found) -> dict[str, Any]:
    """What forced tokens added to what the router sent, by group, and by how many tokens it had sent.

    Empty where nothing was forced. `near` is the natural part of the whole; `unreached` counts
    quantizers that the router sent nothing.
    """
    if not any(block.forced.any() for block in found.experts):
        return {}
    part, seen = natural_part(found), routed_of(found)
    inside = seen >= 0
    edges = (0, *THRESHOLDS, np.inf)
    chosen = [(title, mask & inside) for title, mask in quantizer_groups(found) if (mask & inside).any()]
    return {
        "near": {
            title: {"unreached": int((part[mask] == 0).sum()), **_nearness(part[mask])}
            for title, mask in chosen
        },
        "by_routed": {
            title: [
                {"from": low, **_nearness(part[here])}
                for low, high in pairwise(edges)
                if (here := mask & (seen >= low) & (seen < high)).any()
            ]
            for title, mask in chosen
        },
    }


def natural_part(found: Found) -> np.ndarray:
    """The natural part of each quantizer's amax, [quantizers]; NaN where nothing came at all."""
    last = found.measured[:, -1]
    return np.divide(found.natural, last, out=np.full_like(last, np.nan), where=last > 0)


def routed_of(found: Found) -> np.ndarray:
    """The positions that the expert of each quantizer was sent, int64 [quantizers]; −1 outside experts."""
    counts = {
        f"{block.block}.experts.{expert}": count
        for block in found.experts
        for expert, count in enumerate(block.routed.tolist())
    }
    return np.array([counts.get(name.rsplit(".", 2)[0], -1) for name in found.names], np.int64)


def against(found: Found, other: Found) -> dict[str, Any]:
    """The exported amaxes of `found` divided by those of another checkpoint of the same model, by group.

    Raises:
        Stop: when the two do not have the same quantizers.
    """
    if found.names != other.names:
        raise Stop("against=… has other quantizers: it was made of another model or with another format")
    ratio = found.exported / other.exported
    return {
        title: {
            "quantizers": int(chosen.sum()),
            "equal": float((ratio[chosen] == 1).mean()),
            "within_1_percent": float((abs(ratio[chosen] - 1) <= 0.01).mean()),
            "within_5_percent": float((abs(ratio[chosen] - 1) <= 0.05).mean()),
            "smallest": float(ratio[chosen].min()),
            "median": float(np.median(ratio[chosen])),
            "largest": float(ratio[chosen].max()),
        }
        for title, chosen in quantizer_groups(found)
    }


def calibrated_bytes(tensors: dict[str, Any]) -> dict[str, Any]:
    """Of a manifest's tensors, the bytes that calibration decides, by kind, beside all."""
    kinds = {name: {"tensors": 0, "bytes": 0} for name in CALIBRATED}
    total = 0
    for name, said in tensors.items():
        size = int(np.prod(said["shape"], dtype=np.int64)) * np.dtype(BITS[said["dtype"]]).itemsize
        total += size
        if (kind := name.rpartition(".")[2]) in kinds:
            kinds[kind]["tensors"] += 1
            kinds[kind]["bytes"] += size
    kinds = {name: counted for name, counted in kinds.items() if counted["tensors"]}
    decided = sum(counted["bytes"] for counted in kinds.values())
    return {"kinds": kinds, "bytes": decided, "total": total, "share": decided / total}


def _nearness(part: np.ndarray) -> dict[str, float]:
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
