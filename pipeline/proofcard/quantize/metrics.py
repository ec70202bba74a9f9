"""Calibration statistics condensed into a few numbers: a manifest's statistics, MLflow's metrics."""

from typing import Any

import numpy as np

from proofcard.quantize.statistics import CalibrationStatistics

_TITLES = {"input": "inputs of", "k_bmm": "keys", "v_bmm": "values"}


def converged(statistics: CalibrationStatistics) -> np.ndarray:
    """Whether a quantizer had reached its last measured amax, bool [quantizers, marks]."""
    return (statistics.measured == statistics.measured[:, -1:]) & (statistics.measured > 0)


def share_of_last(statistics: CalibrationStatistics) -> np.ndarray:
    """A quantizer's amax as a fraction of its last measured one, [quantizers, marks]; NaN if that is 0."""
    last = statistics.measured[:, -1:]
    return np.divide(statistics.measured, last, out=np.full_like(statistics.measured, np.nan), where=last > 0)


def by_kind(statistics: CalibrationStatistics) -> dict[str, np.ndarray]:
    """The quantizers of each kind (`input`, `k_bmm`, `v_bmm`) as masks, bool [quantizers]."""
    each = np.array([kind(name) for name in statistics.names])
    return {name: each == name for name in sorted(set(each.tolist()))}


def kind(quantizer: str) -> str:
    """`input`, `k_bmm` or `v_bmm`: what a quantizer's name ends with."""
    return quantizer.rpartition(".")[2].removesuffix("_quantizer")


def quantizer_groups(statistics: CalibrationStatistics) -> list[tuple[str, np.ndarray]]:
    """Quantizers by what they quantize, with a title: inputs by the linear's own name, keys, values.

    Linears that always get the same input, such as gate and up, form one group.
    """
    parts = [name.split(".") for name in statistics.names]
    labels = np.array(
        [
            part[-2] if kind(name) == "input" else ""
            for name, part in zip(statistics.names, parts, strict=True)
        ]
    )
    groups: dict[bytes, tuple[str, np.ndarray]] = {}
    for kind_, chosen in by_kind(statistics).items():
        for label in dict.fromkeys(labels[chosen].tolist()):
            mine = chosen & (labels == label)
            same = statistics.measured[mine].tobytes() + statistics.exported[mine].tobytes()
            if same in groups:
                title, first = groups[same]
                groups[same] = (f"{title}, {label}", first | mine)
            else:
                groups[same] = (f"{_TITLES[kind_]} {label}".strip(), mine)
    return list(groups.values())


def totals(statistics: CalibrationStatistics) -> dict[str, int]:
    """The numbers in a manifest; those about experts only for a model that has some."""
    half = [mark for mark, count in enumerate(statistics.samples) if 2 * count <= statistics.samples[-1]]
    numbers = {
        "positions": statistics.positions,
        "amaxes": len(statistics.names),
        "amaxes_final_after_half": int(converged(statistics)[:, half[-1]].sum()) if half else 0,
    }
    if statistics.experts:
        routed = np.concatenate([block.routed for block in statistics.experts])
        forced = np.concatenate([block.forced for block in statistics.experts])
        numbers |= {"experts": routed.size, "experts_forced": int((forced > 0).sum())} | _spread(routed)
    return numbers


def layer_metrics(record: dict[str, Any]) -> dict[str, float]:
    """One layer's numbers: the largest amax of each kind, and how its router distributed the positions."""
    numbers: dict[str, float] = {}
    for name, value in zip(record["quantizers"], record["amax"], strict=True):
        metric = f"by_layer/amax_{kind(name)}"
        numbers[metric] = max(numbers.get(metric, 0.0), value)
    if record["routed"]:
        routed = np.concatenate(
            [np.array(counts, np.int64).sum(axis=0) for counts in record["routed"].values()]
        )
        forced = np.concatenate([np.array(counts, np.int64) for counts in record["forced"].values()])
        spread = _spread(routed) | {"experts_forced": int((forced > 0).sum())}
        numbers |= {f"by_layer/{name}": float(value) for name, value in spread.items()}
    return numbers


def _spread(routed: np.ndarray) -> dict[str, int]:
    """Integers, so that they are the same on every machine: the median is the lower one."""
    inorder = np.sort(routed)
    return {
        "experts_cold": int((routed == 0).sum()),
        "routed_positions_smallest": int(inorder[0]),
        "routed_positions_median": int(inorder[(inorder.size - 1) // 2]),
        "routed_positions_largest": int(inorder[-1]),
    }


def convergence(statistics: CalibrationStatistics) -> list[tuple[int, dict[str, float]]]:
    """How far each kind of quantizer had converged after each marked number of samples.

    `by_samples/converged_<kind>` is the share of quantizers that had reached their last measured amax,
    `by_samples/relative_amax_<kind>` the mean fraction of it. A quantizer without any input
    counts in neither.
    """
    final, share = converged(statistics), share_of_last(statistics)
    points: list[tuple[int, dict[str, float]]] = []
    for mark, count in enumerate(statistics.samples):
        values: dict[str, float] = {}
        for name, chosen in by_kind(statistics).items():
            known = chosen & ~np.isnan(share[:, mark])
            if known.any():
                values[f"by_samples/converged_{name}"] = float(final[known, mark].mean())
                values[f"by_samples/relative_amax_{name}"] = float(share[known, mark].mean())
        points.append((count, values))
    return points


def by_layer(amaxes: dict[str, float]) -> dict[int, dict[str, float]]:
    """Per layer, the largest amax of each kind of quantizer: `{layer: {"by_layer/amax_input": …}}`."""
    layers: dict[int, dict[str, float]] = {}
    for name, value in amaxes.items():
        steps = name.split(".")
        numbers = [int(step) for step in steps if step.isdigit()]
        if not numbers:
            continue
        kind = "by_layer/amax_" + steps[-1].removesuffix("_quantizer")
        layer = layers.setdefault(numbers[0], {})
        layer[kind] = max(layer.get(kind, 0.0), value)
    return dict(sorted(layers.items()))
