"""Compares the recorded digests with those of the rebuilt checkpoint, and explains the result.

Pure: manifests in, a document out. A differing calibrated scale is recovered from its digest, or read from
the recorded checkpoint if that is available.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from proofcard.checkpoint import calibrated
from proofcard.digest import sha256_json
from proofcard.documents.reproduction import (
    Counts,
    Difference,
    Distance,
    FirstDifference,
    Outcome,
    Reproduction,
    Samples,
)
from proofcard.quantize.tables import AMAX, COVERAGE, DATASETS

STATUS: dict[Outcome, int] = {"reproduced": 0, "reproduced within ULP": 3, "not reproduced": 1}
LISTED = 200
_TABLES = {AMAX, COVERAGE, DATASETS}
"""Sealed tables of what calibration saw: they follow the scales."""

_EDITED = (
    "datasets and the code that draws rows are as recorded, so a recorded setting, such as "
    "calibration.sampling.seed, is not the one that drew them"
)

Read = Callable[[str, dict[str, Any]], bytes | None]
"""From a tensor's name and its entry in a manifest to its bytes, where they are known."""


@dataclass(frozen=True)
class Compared:
    """Names that differ, sorted: tensors that follow from weights, calibrated ones, and other files."""

    tensors: list[str]
    calibrated: list[str]
    files: list[str]


def compared(recorded: dict[str, Any], made: dict[str, Any]) -> Compared:
    """What differs between the `outputs` of two manifests.

    A shard counts by its tensors if one of them differs, else by its own digest.
    """
    tensors = _differing(recorded["tensors"], made["tensors"])
    files = _differing(recorded["files"], made["files"])
    holding = {
        side["tensors"][name]["file"]
        for name in tensors
        for side in (recorded, made)
        if name in side["tensors"]
    }
    scales = [name for name in tensors if _is_scale(name, recorded["tensors"], made["tensors"])]
    others = [name for name in tensors if name not in set(scales)]
    return Compared(others, scales, [name for name in files if name not in holding])


def _is_scale(name: str, *sides: dict[str, Any]) -> bool:
    """Whether it is one calibrated tensor of one shape, dtype and file on both sides."""
    if calibrated.kind(name) is None or not all(name in side for side in sides):
        return False
    one, other = ({key: side[name][key] for key in ("file", "dtype", "shape")} for side in sides)
    return one == other


def _differing(recorded: dict[str, Any], made: dict[str, Any]) -> list[str]:
    return sorted(name for name in recorded.keys() | made.keys() if recorded.get(name) != made.get(name))


def distances(
    names: Iterable[str], recorded: dict[str, Any], made: dict[str, Any], read: Read, read_made: Read
) -> list[Distance]:
    """How far each calibrated tensor is from the recorded one, in the order of the names."""
    measured = []
    for name in names:
        before = read(name, recorded[name]) or calibrated.recovered(name, recorded[name]["sha256"])
        now = read_made(name, made[name])
        ulp = calibrated.distance(name, before, now) if before is not None and now is not None else None
        amaxes = [calibrated.amax(name, value) if value is not None else None for value in (before, now)]
        measured.append(Distance(tensor=name, recorded_amax=amaxes[0], made_amax=amaxes[1], ulp=ulp))
    return measured


def judged(
    recipe: str | None,
    recorded: dict[str, Any],
    made: dict[str, Any],
    differences: list[Difference],
    samples: Samples,
    read: Read,
    read_made: Read,
    bound: int,
) -> Reproduction:
    """The document. `recorded` and `made` are the values of manifests."""
    outputs = (recorded["outputs"], made["outputs"])
    differing = compared(*outputs)
    apart = distances(differing.calibrated, outputs[0]["tensors"], outputs[1]["tensors"], read, read_made)
    known = [distance.ulp for distance in apart if distance.ulp is not None]
    outcome = _outcome(differing, apart, bound, recorded["platform"] == made["platform"])
    first = _first(differing, *outputs) if outcome != "reproduced" else None
    names = [name for name in outputs[0]["tensors"] if calibrated.kind(name) is not None]
    return Reproduction(
        outcome=outcome,
        recipe=recipe,
        recorded_key=recorded["key"],
        made_key=made["key"],
        differences=differences,
        samples=samples,
        files=_counts(outputs[0]["files"], outputs[1]["files"]),
        tensors=_counts(outputs[0]["tensors"], outputs[1]["tensors"]),
        calibrated=_counts({name: outputs[0]["tensors"][name] for name in names}, outputs[1]["tensors"]),
        ulp_bound=bound,
        largest_ulp=max(known, default=0) if len(known) == len(apart) else None,
        distances=sorted(apart, key=_farthest_first)[:LISTED],
        first=first,
        cause=_cause(differing, samples, differences, outcome) if outcome != "reproduced" else None,
    )  # fmt: skip


def _farthest_first(one: Distance) -> tuple[bool, int, str]:
    """Unknown distances before all."""
    return one.ulp is not None, -(one.ulp or 0), one.tensor


def _counts(recorded: dict[str, Any], made: dict[str, Any]) -> Counts:
    return Counts(recorded=len(recorded), equal=sum(made.get(name) == recorded[name] for name in recorded))


def _outcome(differing: Compared, apart: list[Distance], bound: int, same_platform: bool) -> Outcome:
    """On the recorded numeric platform nothing may differ; on another one calibration, by `bound` steps."""
    if not (differing.tensors or differing.calibrated or differing.files):
        return "reproduced"
    others = [name for name in differing.files if name not in _TABLES]
    near = all(one.ulp is not None and one.ulp <= bound for one in apart)
    if differing.tensors or others or same_platform or not near:
        return "not reproduced"
    return "reproduced within ULP"


def _first(differing: Compared, recorded: dict[str, Any], made: dict[str, Any]) -> FirstDifference:
    """The first tensor that differs, one that follows from weights before a calibrated one; else a file."""
    names = differing.tensors or differing.calibrated
    part = "tensors" if names else "files"
    name = (names or differing.files)[0]
    before, now = recorded[part].get(name), made[part].get(name)
    return FirstDifference(
        tensor=name if names else None,
        file=(before or now)["file"] if names else name,
        kind="missing" if now is None else "extra" if before is None else "mismatched",
        recorded=before and before["sha256"],
        made=now and now["sha256"],
    )


def _cause(differing: Compared, samples: Samples, differences: list[Difference], outcome: Outcome) -> str:
    """The likeliest of the recorded differences, by what differs in the result.

    Scales that are a rounding apart come from the numeric platform before anything that may change any byte.
    """
    plain_files = [name for name in differing.files if name not in _TABLES]
    weights = bool(differing.tensors or plain_files)
    if not weights and samples.recorded != samples.made:
        others = [one for one in differences if one.may_change == "samples"]
        because = _described(others[0]) if others else _EDITED
        return f"the samples are not the recorded ones: {because}"
    effects = ("any byte",) if weights else ("any byte", "calibration")
    if outcome == "reproduced within ULP":
        effects = effects[::-1]
    for effect in effects:
        if likely := [one for one in differences if one.may_change == effect]:
            more = f", and {len(likely) - 1} more" if len(likely) > 1 else ""
            return f"{_described(likely[0])}{more}"
    what = "weights" if weights else "calibration"
    return (
        f"nothing in the record that may change {what} differs here: the manifest's table may have "
        "been edited, or one of the two machines computes wrongly"
    )


def _described(difference: Difference) -> str:
    return f"{difference.what} is {_short(difference.here)} here, {_short(difference.recorded)} recorded"


def _short(value: Any) -> str:
    if value is None:
        return "absent"
    text = sha256_json(value) if isinstance(value, list | dict) else str(value)
    return text[:12] + "…" if len(text) == 64 else text[:80]
