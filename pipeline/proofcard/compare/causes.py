"""What differs in the making of two checkpoints, by their manifests, and what each difference may change."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from proofcard import deciding
from proofcard.config.compose import flatten
from proofcard.documents.reproduction import Effect
from proofcard.documents.run_comparison import Cause, Kind, May
from proofcard.reproduce import environment_differences
from proofcard.reproduce.environment_differences import Here

_ORDER: tuple[May, ...] = ("any byte", "samples", "calibration", "figures", "nothing by itself")
_SETTINGS: tuple[tuple[str, Effect], ...] = (
    ("calibration.batch_size", "calibration"), ("calibration.pad*", "calibration"),
    ("calibration.attention_mask", "calibration"), ("calibration.*", "samples"),
    ("coverage.*", "calibration"), ("kv_cache.*", "calibration"), ("seed", "calibration"), ("*", "any byte"),
)  # fmt: skip
"""What a setting that is in a key may change, by the first pattern that matches its dotted name."""

_KINDS: dict[str, Kind] = {
    "patches": "toolchain", "packages": "toolchain", "code": "toolchain", "lock": "toolchain",
    "dataset": "data", "samples": "data", "platform": "platform", "environment": "environment",
}  # fmt: skip
"""By the first word of what differs between two environments."""


def between(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    measured: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> list[Cause]:
    """Every difference between two manifests, given as values, but for their outputs; the gravest first.

    `measured` are the settings of what measured each of them; those of one side alone explain nothing.
    """
    causes = _configuration(a["config"], b["config"]) + _sources(a["inputs"], b["inputs"])
    for one in environment_differences.differences(_with_toolchain(a), _here(b)):
        kind = _KINDS[one.what.split(".")[0].split(" ")[0]]
        causes.append(Cause(kind=kind, what=one.what, a=one.recorded, b=one.here, may_change=one.may_change))
    causes += [
        Cause(kind="measurement", what=name, a=value, b=measured[1][name], may_change="figures")
        for name, value in measured[0].items()
        if name in measured[1] and measured[1][name] != value
    ]
    return sorted(causes, key=lambda cause: _ORDER.index(cause.may_change))


def _configuration(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Cause]:
    ours, theirs = flatten(dict(a)), flatten(dict(b))
    return [
        Cause(kind="configuration", what=name, a=ours.get(name), b=theirs.get(name), may_change=_effect(name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]


def _effect(name: str) -> Effect:
    undecided = any(
        fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in deciding.NOT_DECIDING
    )
    if undecided:
        return "nothing by itself"
    return next(effect for pattern, effect in _SETTINGS if fnmatchcase(name, pattern))


def _sources(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Cause]:
    """Files of the source by their digests."""
    ours, theirs = (
        {name: file.get("sha256") for name, file in side["source"]["files"].items()} for side in (a, b)
    )
    return [
        Cause(kind="data", what=f"source {name}", a=ours.get(name), b=theirs.get(name), may_change="any byte")
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def _with_toolchain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a manifest; what earlier versions did not record is empty."""
    return {**values, "toolchain": _toolchain(values)}


def _toolchain(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(("patches", "packages", "code", "lock")) | dict(values["toolchain"])


def _here(values: Mapping[str, Any]) -> Here:
    """A manifest in the place of the machine that another one is compared with."""
    samples = values["inputs"]["samples"]
    drawn = dict.fromkeys(("packages", "code")) | (samples.get("toolchain") or {})
    origin = {"inputs": samples.get("inputs") or {"datasets": {}}, "toolchain": drawn}
    return Here(toolchain=_toolchain(values), platform=values["platform"], samples=origin)
