"""Compares config.json with the source's, key by key, filling in the class's defaults for missing keys.

| key | may differ |
|---|---|
| quantization_config, compression_config | always: `quantconfig` checks the quantization |
| transformers_version, _name_or_path, _attn_implementation… | always: who wrote the file, or how it ran |
| dtype, torch_dtype | it may name a dtype of a good part of the checkpoint's plain matrices |
| rope_theta, rope_scaling, partial_rotary_factor | in spelling: transformers 5 has rope_parameters |
| num_experts, num_local_experts | in spelling |
| a key on one side only | where the other side's class takes that value for a missing key |

A key that only the checkpoint has, and whose default is unknown, is not checked.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proofcard.checkpoint.configuration import CONFIG
from proofcard.checkpoint.defaults import UNKNOWN, default
from proofcard.verify.report import Finding

_FREE = {
    "quantization_config", "compression_config", "transformers_version", "_name_or_path", "name_or_path",
    "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset",
    "attn_implementation", "_commit_hash", "_experts_implementation",
}  # fmt: skip
_SPELLINGS = {"num_experts": "num_local_experts", "torch_dtype": "dtype"}
_ROPE = ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor")
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
_ABSENT = object()

Config = Mapping[str, Any]


class Comparison:
    """A checkpoint's configuration against its source's: `findings`, and what could not be checked."""

    def __init__(self, ours: Config, source: Config, code: Path, dtypes: set[str]) -> None:
        """`code`, the source's folder, may hold a configuration class; `dtypes` are the plain weights'."""
        self.findings: list[Finding] = []
        self.unchecked: list[str] = []
        self._dtypes = dtypes
        self._compare(ours, source, code, "")

    def _compare(self, ours: Config, source: Config, code: Path | None, inside: str) -> None:
        for config, whose in ((ours, ""), (source, "of the source ")):
            for old, new in _SPELLINGS.items():
                if old in config and new in config and not _same(config[old], config[new]):
                    self._differs(f"{inside}{new}", config[old], config[new], f"{whose}names it twice: ")
        mine, theirs = _one_spelling(ours), _one_spelling(source)
        for key in sorted((mine.keys() | theirs.keys()) - _FREE - set(_ROPE)):
            name = f"{inside}{key}"
            have, want = mine.get(key, _ABSENT), theirs.get(key, _ABSENT)
            if key == "dtype":
                self._dtype(name, have, want)
            elif isinstance(have, dict) and isinstance(want, dict):
                if "model_type" in want or "model_type" in have:
                    self._compare(have, want, code, f"{name}.")
                else:
                    self._values(name, have, want)
            else:
                self._key(name, key, (have, want), (mine, theirs), code)
        self._rope(mine, theirs, code, inside)

    def _key(
        self, name: str, key: str, values: tuple[Any, Any], configs: tuple[Config, Config], code: Path | None
    ) -> None:
        have, want = values
        if have is _ABSENT:
            taken = _default(configs[0], key, code)
            if taken is UNKNOWN:
                if want is not None:
                    self._lacks(name, want, "and its default is unknown")
            elif not _same(taken, want):
                self._lacks(name, want, f"and its default is {_text(taken)}")
        elif want is _ABSENT:
            taken = _default(configs[1], key, code)
            if taken is UNKNOWN:
                if have is not None:
                    self.unchecked.append(
                        f"{CONFIG} says {name} = {_text(have)}, the source's does not have it, and its "
                        "default is unknown"
                    )
            elif not _same(taken, have):
                self._differs(name, have, taken, "the source's does not have it: ")
        else:
            self._values(name, have, want)

    def _values(self, name: str, have: Any, want: Any) -> None:
        if not _same(have, want):
            self._differs(name, have, want)

    def _dtype(self, name: str, have: Any, want: Any) -> None:
        if have is _ABSENT or have == want or _DTYPES.get(str(have)) in self._dtypes:
            return
        self._differs(
            name,
            have,
            None if want is _ABSENT else want,
            "few or no weights of the checkpoint have this dtype: ",
        )

    def _rope(self, ours: Config, source: Config, code: Path | None, inside: str) -> None:
        have, want = _rotary(ours, code), _rotary(source, code)
        if have == want:
            return
        if _by_layer_type(have) != _by_layer_type(want):
            self.unchecked.append(
                f"{CONFIG} and the source's describe rotary embeddings differently, one of them by layer type"
            )
            return
        conflict = have.pop("conflict", None)
        want.pop("conflict", None)
        if conflict is not None:
            message = "rope_theta and rope_parameters do not agree with each other"
            self.findings.append(Finding("mismatched", f"{inside}{message}", file=CONFIG))
        for key in sorted(have.keys() | want.keys()):
            if not _same(have.get(key), want.get(key)):
                self._differs(f"{inside}{key}", have.get(key), want.get(key), "rotary embedding: ")

    def _differs(self, name: str, have: Any, want: Any, why: str = "") -> None:
        message = f"{name}: {why}it is {_text(have)}, the source's {_text(want)}"
        finding = Finding("mismatched", message, file=CONFIG, expected=_text(want), found=_text(have))
        self.findings.append(finding)

    def _lacks(self, name: str, want: Any, why: str) -> None:
        message = f"{name}: the source has {_text(want)}, the checkpoint does not have it, {why}"
        self.findings.append(Finding("missing", message, file=CONFIG, expected=_text(want)))


def _default(config: Config, key: str, code: Path | None) -> Any:
    """The class's default under either spelling."""
    for spelling in (key, *(old for old, new in _SPELLINGS.items() if new == key)):
        if (taken := default(config, spelling, code)) is not UNKNOWN:
            return taken
    return UNKNOWN


def _one_spelling(config: Config) -> dict[str, Any]:
    return {_SPELLINGS.get(key, key): value for key, value in config.items()}


def _rotary(config: Config, code: Path | None) -> dict[str, Any]:
    """The rotary settings in either spelling; `conflict` if both are present and differ."""
    scaling, new = config.get("rope_scaling"), config.get("rope_parameters")
    settings: dict[str, Any] = {}
    theta = config.get("rope_theta", default(config, "rope_theta", code))
    if theta is not UNKNOWN and theta is not None:
        settings["rope_theta"] = theta
    if config.get("partial_rotary_factor") is not None:
        settings["partial_rotary_factor"] = config["partial_rotary_factor"]
    if "rope_scaling" not in config and not isinstance(new, dict):
        scaling = default(config, "rope_scaling", code)
    if isinstance(scaling, dict):
        settings |= scaling
    elif scaling is not None and scaling is not UNKNOWN:
        settings["rope_scaling"] = scaling
    if isinstance(new, dict):
        if "rope_theta" in config and not _same(new.get("rope_theta", theta), theta):
            settings["conflict"] = True
        settings |= new
    elif new is not None:
        settings["rope_parameters"] = new
    old = settings.pop("type", None)
    kind = settings.setdefault("rope_type", old or "default")
    if old is not None and old != kind:
        settings["conflict"] = True
    return settings


def _by_layer_type(rotary: dict[str, Any]) -> bool:
    return any(isinstance(value, dict) for value in rotary.values())


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are the same number, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, str) == isinstance(other, str)


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 120 else f"{text[:117]}…"


def differing_keys(ours: Config, source: Config, free: set[str]) -> Iterator[tuple[str, Any, Any]]:
    """Differing keys of two JSON objects with both values (None: missing), except those in `free`."""
    for key in sorted((ours.keys() | source.keys()) - free):
        if not _same(ours.get(key), source.get(key)):
            yield key, ours.get(key), source.get(key)


def text(value: Any) -> str:
    """A JSON value on one line, cut if it is long."""
    return _text(value)
