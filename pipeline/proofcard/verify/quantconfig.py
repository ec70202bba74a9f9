"""What a checkpoint declares about its quantization, checked for consistency.

ModelOpt writes it twice: `hf_quant_config.json` in its own form, and config.json's `quantization_config`
in a form that engines read. Either alone is enough; if there are both, they must agree. Other spellings that
engines read are understood: nested below `quantization`, flat without config_groups, in any letter case.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proofcard.checkpoint.configuration import CONFIG, QUANTIZATION, read_settings
from proofcard.checkpoint.dialects.declarations import COMPRESSED, MIXED, MODELOPT, NVFP4, implied, is_nvfp4
from proofcard.errors import Stop, one_line
from proofcard.files import Unreadable
from proofcard.verify import scheme_parsers as parsers
from proofcard.verify.config_comparison import text
from proofcard.verify.report import Finding
from proofcard.verify.schemes import Scheme, Schemes

CACHES = (None, "FP8", "NVFP4")
"""What a KV cache may be quantized to here."""

_PART = {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False}  # of weights and of inputs
_SIZES = (16, 32)  # of blocks
_CACHE_PART = {"num_bits": 8, "type": "float", "dynamic": False}
# Other keys that a part may have, and the values that do not change what is checked here.
_IRRELEVANT: dict[str, Any] = {
    "strategy": (None, "tensor", "tensor_group"), "symmetric": (None, True), "actorder": (None,),
    "block_structure": (None,), "observer": ..., "observer_kwargs": ..., "zp_dtype": (None,),
    "scale_dtype": (None, "torch.float8_e4m3fn", "float8_e4m3fn"),
}  # fmt: skip
_GROUP = {"weights", "input_activations", "output_activations", "targets", "format"}
_INNER = {
    "config_groups", "ignore", "exclude_modules", "quant_algo", "producer", "quant_method", "kv_cache_scheme",
    "kv_cache_quant_algo", "group_size", "quantization", "has_zero_point", "pre_quant_scale", "format",
    "quantization_status", "version",
}  # fmt: skip
_OUTER_KEYS = {"kv_cache_quant_algo": "kv_cache", "exclude_modules": "excluded modules"}
_OUTER = {
    "quant_algo", "kv_cache_quant_algo", "group_size", "exclude_modules", "has_zero_point", "pre_quant_scale",
}  # fmt: skip


@dataclass
class Declaration:
    """The content of both files, and what is wrong with them. `algorithm` is None if neither names one.

    `unknown`: keys and values that no rule here covers. `schemes`: the scheme of each module, unless
    all have the same.
    """

    config: dict[str, Any] = field(default_factory=dict)
    algorithm: Any = None
    cache: Any = None
    group_size: Any = None
    patterns: list[str] = field(default_factory=list)
    file: str = CONFIG  # which of the two the values above are from
    method: Any = None
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    schemes: Schemes | None = None

    def scheme(self, module: str) -> Scheme | None:
        """The declared scheme of a quantized linear; None if there is none."""
        if self.schemes is not None:
            return self.schemes.of(module)
        return parsers.ALGORITHMS.get(self.algorithm) if isinstance(self.algorithm, str) else None


def read(folder: Path) -> Declaration:
    """Both files; raises Unreadable when one is there and cannot be read."""
    declared = Declaration()
    config, quant = (_json(folder, name, declared.findings) for name in (CONFIG, QUANTIZATION))
    declared.config = config or {}
    if config is None and not declared.findings:
        declared.findings.append(Finding("missing", "every checkpoint has one", file=CONFIG))
    for place, content, key in (
        (CONFIG, declared.config, "quantization_config"),
        (QUANTIZATION, quant, "quantization"),
    ):
        if content is not None and not isinstance(content.get(key, {}), dict):
            why = f"{key} is {text(content[key])}, not an object"
            declared.findings.append(Finding("mismatched", why, file=place))
    inner = _flat(_dict(declared.config, "quantization_config"))
    ours = _inner_form(inner)
    if quant is not None:
        theirs = _outer_form(quant)
        declared.file = QUANTIZATION
        if inner.keys() - {"quant_method", "producer"}:
            declared.findings += _disagreements(ours, theirs)
        # What only config.json says counts too: engines read either.
        named = {_OUTER_KEYS.get(key, key) for key in (*_dict(quant, "quantization"), *quant)}
        ours = {key: theirs[key] if key in named else ours[key] for key in ours}
        layers = {"quantized_layers"} if theirs["quant_algo"] == MIXED else set()
        _check_keys(_dict(quant, "quantization"), _OUTER | layers, QUANTIZATION, declared)
    declared.method = _word(_lower(inner.get("quant_method", "modelopt" if quant is not None else None)))
    declared.algorithm, declared.cache = _word(ours["quant_algo"]), _word(ours["kv_cache"])
    declared.group_size = ours["group_size"]
    if declared.method in COMPRESSED:
        _others(inner, declared)
        return declared
    if declared.algorithm in parsers.ALGORITHMS and declared.method in MODELOPT:
        _check_keys(inner, _INNER, CONFIG, declared)
        declared.findings += _parts(inner, declared)
    elif declared.algorithm == MIXED and declared.method in MODELOPT:
        _check_keys(inner, _INNER | {"quantized_layers"}, CONFIG, declared)
        _mixed(inner, _dict(quant, "quantization"), declared)
    if declared.cache not in CACHES:
        declared.unknown.append(f"the KV cache is {text(declared.cache)}: only FP8 and NVFP4 are known")
    patterns = ours["excluded modules"]
    if isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns):
        declared.patterns = patterns
    elif patterns is not None:
        declared.findings.append(
            Finding("mismatched", "its excluded modules are not a list of names", file=declared.file)
        )
    return declared


def other_layout(declared: Declaration) -> str | None:
    """Why the tensors cannot be checked: the files declare a layout that is not known here."""
    if declared.schemes is not None:
        return None
    if declared.method in MODELOPT:
        if declared.algorithm in parsers.ALGORITHMS and is_nvfp4(declared.algorithm):
            return None
        if declared.algorithm in parsers.FOLDED:
            why = parsers.FOLDED[declared.algorithm]
            return (
                f"quant_algo is {declared.algorithm}: {why}, so its bytes do not follow from the source alone"
            )
    what = f"quant_algo {declared.algorithm!r}, quant_method {declared.method!r}"
    return f"only NVFP4 of ModelOpt, llm-compressor and auto-round is supported; this is {what}"


def _word(value: Any) -> str | None:
    """A name as it was written; anything else as text, which matches no known name."""
    return value if value is None or isinstance(value, str) else text(value)


def _others(inner: dict[str, Any], declared: Declaration) -> None:
    """compressed-tensors or auto-round, or auto-round in the form of the former."""
    if declared.method == "auto-round":
        declared.schemes = parsers.auto_round(inner, declared.unknown)
    else:
        declared.schemes = parsers.compressed_tensors(inner, declared.unknown)
    declared.algorithm, declared.group_size = NVFP4, None
    if declared.cache not in CACHES:
        declared.unknown.append(f"the KV cache is {text(declared.cache)}: only FP8 and NVFP4 are known")


def _mixed(inner: dict[str, Any], outer: dict[str, Any], declared: Declaration) -> None:
    """Both files' lists, which must be one list."""
    layers = [part["quantized_layers"] for part in (outer, inner) if "quantized_layers" in part]
    if len(layers) == 2 and layers[0] != layers[1]:
        message = f"quantized_layers: {QUANTIZATION} and {CONFIG} disagree"
        declared.findings.append(Finding("mismatched", message, file=CONFIG))
    declared.schemes = parsers.modelopt_layers(layers[0] if layers else None, declared.unknown, declared.file)
    declared.group_size = None
    for name, group in _dict(inner, "config_groups").items():
        weights = _dict(group, "weights")
        for module in group.get("targets") or [] if isinstance(group, dict) else []:
            scheme = declared.schemes.exact.get(module) if isinstance(module, str) else None
            if scheme is None or scheme.bits != weights.get("num_bits"):
                message = f"{name} of config_groups and quantized_layers disagree on {text(module)}"
                declared.findings.append(Finding("mismatched", message, file=CONFIG))
                break


def _check_keys(part: dict[str, Any], known: set[str], file: str, declared: Declaration) -> None:
    """Note unknown keys, which may mean another quantization, unless they have no value."""
    for key in sorted(part.keys() - known):
        if part[key] not in (None, False, [], {}):
            declared.unknown.append(
                f"{file}: {key} = {text(part[key])} of the quantization is not understood"
            )
    smoothed = _upper(part.get("quant_algo")) == parsers.SMOOTHED
    for key in ("has_zero_point",) if smoothed else ("has_zero_point", "pre_quant_scale"):
        if part.get(key) not in (None, False):
            declared.unknown.append(f"{file}: {key} = {text(part[key])} belongs to another layout")


def _parts(inner: dict[str, Any], declared: Declaration) -> Iterator[Finding]:
    """Checks that config_groups describe NVFP4 weights and inputs as ModelOpt does."""
    groups = inner.get("config_groups")
    if groups is None:
        return
    if not isinstance(groups, dict) or not groups:
        yield Finding("mismatched", f"config_groups is {text(groups)}: it names no group", file=CONFIG)
        return
    for name, group in groups.items():
        if not isinstance(group, dict):
            yield Finding("mismatched", f"{name} of config_groups is {text(group)}", file=CONFIG)
            continue
        for key in sorted(group.keys() - _GROUP):
            declared.unknown.append(f"{CONFIG}: {key} = {text(group[key])} of {name} is not understood")
        if group.get("output_activations") is not None:
            declared.unknown.append(f"{CONFIG}: output_activations of {name} is not understood")
        if group.get("targets") != ["Linear"]:
            message = f"targets of {name} is {text(group.get('targets'))}; every quantized module is a Linear"
            yield Finding("mismatched", message, file=CONFIG)
        size = declared.group_size if declared.group_size in _SIZES else _PART["group_size"]
        yield from _part(f"weights of {name}", group.get("weights"), _PART | {"group_size": size}, declared)
        scheme = parsers.ALGORITHMS[declared.algorithm]
        if scheme.inputs != "none" or group.get("input_activations") is not None:
            yield from _part(f"input_activations of {name}", group.get("input_activations"), _PART, declared)


def _part(where: str, part: Any, wanted: dict[str, Any], declared: Declaration) -> Iterator[Finding]:
    if not isinstance(part, dict):
        yield Finding("mismatched", f"{where} is {text(part)}; NVFP4 quantizes both", file=CONFIG)
        return
    for key, value in wanted.items():
        have = part.get(key)
        if isinstance(have, bool) != isinstance(value, bool) or have != value:
            message = f"{key} of {where} is {text(have)}; NVFP4's is {text(value)}"
            yield Finding("mismatched", message, file=CONFIG, expected=text(value), found=text(have))
    for key in sorted(part.keys() - wanted.keys()):
        if not _changes_nothing(key, part[key]):
            declared.unknown.append(f"{CONFIG}: {key} = {text(part[key])} of {where} is not understood")


def _json(folder: Path, name: str, findings: list[Finding]) -> dict[str, Any] | None:
    try:
        return read_settings(folder, name, shown="it")
    except FileNotFoundError:
        return None
    except Unreadable:
        raise
    except Stop as error:
        findings.append(Finding("mismatched", one_line(error, checkpoint=folder), file=name))
        return None


def _dict(content: Any, key: str) -> dict[str, Any]:
    inner = content.get(key) if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else {}


def _flat(inner: dict[str, Any]) -> dict[str, Any]:
    """`quantization_config` with the keys nested below `quantization` moved to the top."""
    nested = inner.get("quantization")
    if not isinstance(nested, dict):
        return inner
    return {key: value for key, value in inner.items() if key != "quantization"} | nested


def _outer_form(quant: dict[str, Any]) -> dict[str, Any]:
    inner = _dict(quant, "quantization")
    return {
        "quant_algo": _upper(inner.get("quant_algo")),
        "kv_cache": _upper(inner.get("kv_cache_quant_algo")),
        "group_size": inner.get("group_size"),
        "excluded modules": inner.get("exclude_modules") or [],
        "producer": quant.get("producer"),
    }


def _inner_form(inner: dict[str, Any]) -> dict[str, Any]:
    groups = _dict(inner, "config_groups")
    parts = [_dict(group, part) for group in groups.values() for part in ("weights", "input_activations")]
    sizes = [part["group_size"] for part in parts if "group_size" in part]
    sizes += [inner["group_size"]] if "group_size" in inner else []
    algorithm = _upper(inner.get("quant_algo"))
    if algorithm is None:
        algorithm = implied(_word(_lower(inner.get("quant_method"))))
    return {
        "quant_algo": algorithm,
        "kv_cache": _cache_of(inner),
        "group_size": sizes[0] if sizes and all(size == sizes[0] for size in sizes) else sizes or None,
        "excluded modules": inner.get("ignore") or inner.get("exclude_modules") or [],
        "producer": inner.get("producer"),
    }


def _changes_nothing(key: str, value: Any) -> bool:
    return key in _IRRELEVANT and (_IRRELEVANT[key] is ... or value in _IRRELEVANT[key])


def _cache_of(inner: dict[str, Any]) -> Any:
    scheme = inner.get("kv_cache_scheme")
    if isinstance(scheme, dict):
        harmless = all(
            value is None or key in _CACHE_PART or _changes_nothing(key, value)
            for key, value in scheme.items()
        )  # fmt: skip
        fp8 = all(_equal(scheme.get(key), value) for key, value in _CACHE_PART.items())
        return "FP8" if fp8 and harmless else scheme
    return _upper(inner.get("kv_cache_quant_algo")) if scheme is None else _upper(scheme)


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _upper(name: Any) -> Any:
    return name.upper() if isinstance(name, str) else name


def _lower(name: Any) -> Any:
    return name.lower() if isinstance(name, str) else name


def _disagreements(inner: dict[str, Any], outer: dict[str, Any]) -> Iterator[Finding]:
    """Values on which the two files disagree. Either may omit the producer or the group size."""
    for what in sorted(inner):
        if what in ("producer", "group_size") and None in (inner[what], outer[what]):
            continue
        have, want = inner[what], outer[what]
        if what == "excluded modules" and isinstance(have, list) and isinstance(want, list):
            have, want = sorted(map(str, have)), sorted(map(str, want))
        if have != want:
            first, second = (json.dumps(form[what], sort_keys=True) for form in (outer, inner))
            message = f"{what}: {QUANTIZATION} and {CONFIG} disagree"
            yield Finding("mismatched", message, file=CONFIG, expected=first[:200], found=second[:200])
