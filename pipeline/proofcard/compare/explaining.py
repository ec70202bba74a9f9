"""What differs in the outputs of two manifests, and which causes can explain it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from proofcard.checkpoint import calibrated
from proofcard.checkpoint.roles import role
from proofcard.documents.run_comparison import Cause, Explanation, May, Metric, Outcome, Role
from proofcard.reproduce import result

_NEAR = 2  # steps of BF16 by which a scale may differ on another numeric platform
_CAN: dict[Outcome, tuple[May, ...]] = {
    "weights": ("any byte",),
    "calibrated scales": ("samples", "calibration", "any byte"),
    "other files": ("any byte", "samples", "calibration"),
    "metrics": ("figures", "any byte", "samples", "calibration"),
}
"""The effects that may change an outcome, the likeliest first."""

Outputs = Mapping[str, Any]


def roles(a: Outputs, b: Outputs) -> list[Role]:
    """Tensors by role, from the tables of two manifests."""
    ours, theirs = a["tensors"], b["tensors"]
    of_a, of_b = Counter(map(role, ours)), Counter(map(role, theirs))
    same = Counter(role(name) for name in ours if _same(ours, theirs, name))
    return [Role(role=name, a=of_a[name], b=of_b[name], equal=same[name]) for name in sorted(of_a | of_b)]


def files(a: Outputs, b: Outputs) -> list[str]:
    """Files without weights that are not the same on both sides."""
    names = sorted(
        name for name in a["files"].keys() | b["files"].keys() if not name.endswith(".safetensors")
    )
    return [name for name in names if a["files"].get(name) != b["files"].get(name)]


def explanations(a: Outputs, b: Outputs, causes: list[Cause], metrics: list[Metric]) -> list[Explanation]:
    """Each outcome with the causes that may have changed it."""
    ours, theirs = a["tensors"], b["tensors"]
    names = sorted(ours.keys() | theirs.keys())
    scales = [name for name in names if calibrated.kind(name) is not None]
    weights = [name for name in names if calibrated.kind(name) is None]
    differ = [name for name in names if not _same(ours, theirs, name)]
    of_scales = [name for name in differ if calibrated.kind(name) is not None]
    of_weights = [name for name in differ if calibrated.kind(name) is None]
    others = [name for name in {**a["files"], **b["files"]} if not name.endswith(".safetensors")]
    largest = _largest_ulp(a, b, of_scales)
    both = [metric for metric in metrics if metric.a is not None and metric.b is not None]
    moved = [metric for metric in both if metric.a != metric.b]
    measuring = [cause for cause in causes if cause.kind == "measurement"]
    return [
        _explained("weights", len(of_weights), len(weights), causes),
        _explained("calibrated scales", len(of_scales), len(scales), causes, largest),
        _explained("other files", len(files(a, b)), len(others), causes),
        _explained("metrics", len(moved), len(both), causes if differ else measuring),
    ]


def _explained(
    outcome: Outcome, differ: int, of: int, causes: list[Cause], largest: int | None = None
) -> Explanation:
    """Where all scales are a rounding apart, the numeric platform is likelier than what draws samples."""
    effects = _CAN[outcome]
    able = sorted(
        (cause for cause in causes if cause.may_change in effects),
        key=lambda cause: (
            cause.kind != "platform"
            if largest is not None and largest <= _NEAR
            else cause.kind == "platform",
            effects.index(cause.may_change),
        ),
    )
    return Explanation(
        outcome=outcome, differ=differ, of=of, largest_ulp=largest,
        by=[cause.what for cause in able] if differ else [],
    )  # fmt: skip


def _same(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> bool:
    one, other = a.get(name), b.get(name)
    if one is None or other is None:
        return False
    return all(one[field] == other[field] for field in ("dtype", "shape", "sha256"))


def _largest_ulp(a: Outputs, b: Outputs, names: list[str]) -> int | None:
    """The largest distance of two scales; None where one is on one side only, or its value is not known."""
    if not names or any(name not in a["tensors"] or name not in b["tensors"] for name in names):
        return None

    def recovered(name: str, entry: dict[str, Any]) -> bytes | None:
        return calibrated.recovered(name, entry["sha256"])

    apart = result.distances(names, a["tensors"], b["tensors"], recovered, recovered)
    known = [each.ulp for each in apart if each.ulp is not None]
    return max(known) if len(known) == len(apart) else None
