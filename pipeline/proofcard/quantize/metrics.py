"""What calibration saw as a few numbers to look at: a manifest's statistics, MLflow's metrics."""

from typing import Any

import numpy as np

from proofcard.quantize.statistics import Found

_TITLES = {"input": "inputs of", "k_bmm": "keys", "v_bmm": "values"}


def settled(found: Found) -> np.ndarray:
    """Whether a quantizer had its last measured amax already, bool [quantizers, marks]."""
    return (found.measured == found.measured[:, -1:]) & (found.measured > 0)


def reached(found: Found) -> np.ndarray:
    """The part of its last measured amax that a quantizer had, [quantizers, marks]; NaN if that is 0."""
    last = found.measured[:, -1:]
    return np.divide(found.measured, last, out=np.full_like(found.measured, np.nan), where=last > 0)


def kinds(found: Found) -> dict[str, np.ndarray]:
    """Which quantizers are of a kind: `input`, `k_bmm`, `v_bmm`; bool [quantizers] each."""
    each = np.array([kind(name) for name in found.names])
    return {name: each == name for name in sorted(set(each.tolist()))}


def kind(quantizer: str) -> str:
    """`input`, `k_bmm` or `v_bmm`: what a quantizer's name ends with."""
    return quantizer.rpartition(".")[2].removesuffix("_quantizer")


def quantizer_groups(found: Found) -> list[tuple[str, np.ndarray]]:
    """Quantizers by what they quantize, with a title: inputs by the linear's own name, keys, values.

    Linears that always get the same input, as gate and up do, come as one.
    """
    parts = [name.split(".") for name in found.names]
    labels = np.array(
        [part[-2] if kind(name) == "input" else "" for name, part in zip(found.names, parts, strict=True)]
    )
    groups: dict[bytes, tuple[str, np.ndarray]] = {}
    for kind_, chosen in kinds(found).items():
        for label in dict.fromkeys(labels[chosen].tolist()):
            mine = chosen & (labels == label)
            same = found.measured[mine].tobytes() + found.exported[mine].tobytes()
            if same in groups:
                title, first = groups[same]
                groups[same] = (f"{title}, {label}", first | mine)
            else:
                groups[same] = (f"{_TITLES[kind_]} {label}".strip(), mine)
    return list(groups.values())


def totals(found: Found) -> dict[str, int]:
    """The few numbers that a manifest tells; those about experts only where there are any."""
    half = [mark for mark, count in enumerate(found.samples) if 2 * count <= found.samples[-1]]
    said = {
        "positions": found.positions,
        "amaxes": len(found.names),
        "amaxes_final_after_half": int(settled(found)[:, half[-1]].sum()) if half else 0,
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
    final, share = settled(found), reached(found)
    points: list[tuple[int, dict[str, float]]] = []
    for mark, count in enumerate(found.samples):
        values: dict[str, float] = {}
        for name, chosen in kinds(found).items():
            known = chosen & ~np.isnan(share[:, mark])
            if known.any():
                values[f"converged/{name}"] = float(final[known, mark].mean())
                values[f"relative_amax/{name}"] = float(share[known, mark].mean())
        points.append((count, values))
    return points


def by_layer(amaxes: dict[str, float]) -> dict[int, dict[str, float]]:
    """Per layer, the largest amax of each kind of quantizer: `{layer: {"amax/input": …}}`."""
    layers: dict[int, dict[str, float]] = {}
    for name, value in amaxes.items():
        steps = name.split(".")
        numbers = [int(step) for step in steps if step.isdigit()]
        if not numbers:
            continue
        kind = "amax/" + steps[-1].removesuffix("_quantizer")
        layer = layers.setdefault(numbers[0], {})
        layer[kind] = max(layer.get(kind, 0.0), value)
    return dict(sorted(layers.items()))
