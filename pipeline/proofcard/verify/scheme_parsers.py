"""Reads configurations with a scheme per module into `Schemes`: ModelOpt's mixed one and other makers'.

What a key means is taken from the maker's release; a key or value that is not known makes the checkpoint `not
checked`, in one sentence.
"""

from collections.abc import Mapping
from typing import Any

from proofcard.checkpoint.configuration import CONFIG
from proofcard.verify.config_comparison import text
from proofcard.verify.patterns import Pattern, named
from proofcard.verify.schemes import Scheme, Schemes

Config = Mapping[str, Any]

ALGORITHMS: dict[str, Scheme] = {
    "NVFP4": Scheme(4, inputs="scale"),
    "W4A16_NVFP4": Scheme(4, inputs="none"),
    "W4A8_NVFP4_FP8": Scheme(4, inputs="scale"),
    "FP8": Scheme(8, inputs="scale"),
    "FP8_PER_CHANNEL_PER_TOKEN": Scheme(8, channel=True, inputs="none"),
}
"""ModelOpt's names of what is understood here."""

SMOOTHED = "NVFP4_AWQ"
FOLDED = {
    "NVFP4_AWQ": "AWQ folded a factor for each input channel into the weights and the layer before them",
    "NVFP4_SVD": "SVDQuant took a low-rank part, in tensors of its own, out of the weights",
}
"""ModelOpt's names of what no source alone decides, and why."""

_COMPRESSED = {
    "config_groups", "format", "global_compression_ratio", "ignore", "kv_cache_scheme", "quant_method",
    "quantization_status", "version", "provider",
}  # fmt: skip
_AUTO_ROUND = {
    "bits", "act_bits", "data_type", "act_data_type", "group_size", "act_group_size", "sym", "act_sym",
    "act_dynamic", "extra_config", "block_name_to_quantize", "to_quant_block_names", "quant_method",
    "packing_format",
}  # fmt: skip
_TUNING = {  # how it was made, which says nothing of what is stored
    "autoround_version", "enable_quanted_input", "iters", "lr", "minmax_lr", "nsamples", "seqlen",
    "batch_size", "enable_minmax_tuning", "enable_norm_bias_tuning", "low_gpu_mem_usage", "scale_dtype",
    "gradient_accumulate_steps", "dataset", "enable_alg_ext", "quant_nontext_module", "momentum", "sampler",
    "truncation", "enable_torch_compile", "amp", "not_use_best_mse", "dynamic_max_gap", "enable_adam",
    "enable_opt_rtn", "disable_opt_rtn", "super_bits", "super_group_size",
}  # fmt: skip
_FORMATS = {None, "nvfp4-pack-quantized", "float-quantized", "mixed-precision"}
_PACKINGS = {None, "auto_round:llm_compressor", "llm_compressor", "auto_round:nv_fp", "auto_round"}
_NV_FP4 = {"nv_fp", "nv_fp4"}
_IRRELEVANT = {"observer", "observer_kwargs"}


def modelopt_layers(layers: Any, unknown: list[str], file: str) -> Schemes:
    """`quantized_layers` of a MIXED_PRECISION checkpoint."""
    schemes = Schemes(file=file)
    if not isinstance(layers, dict) or not layers:
        unknown.append(
            f"{file}: MIXED_PRECISION without quantized_layers: the quantization of each linear is unknown"
        )
        return schemes
    for name, entry in layers.items():
        algorithm = entry.get("quant_algo") if isinstance(entry, dict) else entry
        size = entry.get("group_size") if isinstance(entry, dict) else None
        scheme = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
        if scheme is None:
            why = FOLDED.get(str(algorithm), "which is not supported")
            unknown.append(f"{file}: {name} is {text(algorithm)}: {why}")
            break
        block = size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None
        schemes.exact[name] = Scheme(
            scheme.bits, block if scheme.bits == 4 else None, scheme.channel, scheme.inputs
        )
    return schemes


def compressed_tensors(inner: Config, unknown: list[str]) -> Schemes:
    """`quantization_config` with `config_groups` as compressed-tensors 0.15 to 0.19 write it."""
    schemes = Schemes()
    _check_keys(inner, _COMPRESSED, unknown)
    if inner.get("format") not in _FORMATS:
        unknown.append(f"{CONFIG}: format = {text(inner.get('format'))} is not understood")
    if inner.get("quantization_status") not in (None, "compressed"):
        unknown.append(
            f"{CONFIG}: quantization_status = {text(inner.get('quantization_status'))}: not compressed"
        )
    groups = inner.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        unknown.append(f"{CONFIG}: config_groups is {text(groups)}, which describes nothing")
        return schemes
    for name, group in groups.items():
        if not isinstance(group, dict):
            unknown.append(f"{CONFIG}: {name} of config_groups is {text(group)}")
            continue
        scheme = _group(str(name), group, unknown)
        for pattern in _patterns(group.get("targets"), f"targets of {name}", unknown):
            schemes.groups.append((pattern, scheme))
    schemes.ignored = _patterns(inner.get("ignore") or [], "ignore", unknown)
    return schemes


def _group(name: str, group: Config, unknown: list[str]) -> Scheme | None:
    for key in sorted(
        group.keys() - {"weights", "input_activations", "output_activations", "targets", "format"}
    ):
        if group[key] not in (None, False, [], {}):
            unknown.append(f"{CONFIG}: {key} = {text(group[key])} of {name} is not understood")
    if group.get("output_activations") is not None:
        unknown.append(f"{CONFIG}: output_activations of {name} is not understood")
    if group.get("format") not in _FORMATS:
        unknown.append(f"{CONFIG}: format = {text(group.get('format'))} of {name} is not understood")
    weights, inputs = group.get("weights"), group.get("input_activations")
    if _is(weights, num_bits=4, type="float", strategy="tensor_group", group_size=16, dynamic=False):
        if inputs is None:
            return Scheme(4, 16, inputs="none")
        if _is(inputs, num_bits=4, type="float", strategy="tensor_group", group_size=16, dynamic="local"):
            return Scheme(4, 16, inputs="scale")
    for strategy in ("tensor", "channel"):
        if _is(weights, num_bits=8, type="float", strategy=strategy, group_size=None, dynamic=False):
            channel = strategy == "channel"
            if inputs is None or _is(inputs, num_bits=8, type="float", strategy="token", dynamic=True):
                return Scheme(8, channel=channel, inputs="none")
            if _is(inputs, num_bits=8, type="float", strategy="tensor", dynamic=False):
                return Scheme(8, channel=channel, inputs="scale")
    parts = f"weights {text(weights)}, inputs {text(inputs)}"
    unknown.append(f"{CONFIG}: {name} is neither NVFP4 nor FP8 as supported: {parts}")
    return None


def _is(part: Any, **wanted: Any) -> bool:
    """Whether a part says just this, and of everything else nothing that changes what is stored."""
    if not isinstance(part, dict):
        return False
    for key, value in wanted.items():
        have = part.get(key)
        if isinstance(have, bool) != isinstance(value, bool) or have != value:
            return False
    harmless = {
        "symmetric": (None, True), "scale_dtype": (None, "torch.float8_e4m3fn", "float8_e4m3fn"),
        "zp_dtype": (None,), "actorder": (None, "static", "weight"), "block_structure": (None,),
        "group_size": (None,),
    }  # fmt: skip
    rest = part.keys() - wanted.keys() - _IRRELEVANT
    return all(part[key] in harmless.get(key, (None, False)) for key in rest)


def _patterns(names: Any, where: str, unknown: list[str]) -> list[Pattern]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        unknown.append(f"{CONFIG}: {where} is {text(names)}, which is not a list of names")
        return []
    return [pattern for name in names if (pattern := _pattern(name, where, unknown)) is not None]


def _pattern(written: str, where: str, unknown: list[str], regex: bool = False) -> Pattern | None:
    pattern = named(written, regex)
    if isinstance(pattern, str):
        unknown.append(f"{CONFIG}: {where}: {pattern}")
        return None
    return pattern


def auto_round(inner: Config, unknown: list[str]) -> Schemes:
    """`quantization_config` as auto-round 0.12 to 0.16 write it for NVFP4."""
    schemes = Schemes()
    _check_keys(inner, _AUTO_ROUND | _TUNING, unknown)
    if inner.get("packing_format") not in _PACKINGS:
        unknown.append(f"{CONFIG}: packing_format = {text(inner.get('packing_format'))} is not understood")
    base = {key: inner.get(key) for key in _AUTO_ROUND}
    schemes.groups.append((Pattern("Linear", None, everything=True), _auto_round_scheme(base, "it", unknown)))
    blocks = inner.get("block_name_to_quantize") or inner.get("to_quant_block_names") or ""
    names = blocks if isinstance(blocks, list) else str(blocks).split(",")
    schemes.below = tuple(name.strip() for name in names if isinstance(name, str) and name.strip())
    extra = inner.get("extra_config") or {}
    if not isinstance(extra, dict):
        unknown.append(f"{CONFIG}: extra_config is {text(extra)}")
        return schemes
    for name, settings in extra.items():
        # A name without anything of a pattern is a name; `.` alone does not make it one.
        regex = any(sign in name for sign in "*+?\\[(^$|")
        pattern = _pattern(name, "extra_config", unknown, regex)
        if not isinstance(settings, dict):
            unknown.append(f"{CONFIG}: {name} of extra_config is {text(settings)}")
            continue
        if pattern is not None:
            schemes.groups.append((pattern, _auto_round_scheme(base | settings, name, unknown)))
    return schemes


def _auto_round_scheme(settings: Config, where: str, unknown: list[str]) -> Scheme | None:
    bits, kind, size = settings.get("bits"), settings.get("data_type"), settings.get("group_size")
    if isinstance(bits, int) and not isinstance(bits, bool) and bits >= 16:
        return None
    inputs = settings.get("act_bits")
    symmetric = settings.get("sym") in (None, True) and settings.get("act_sym") in (None, True)
    if bits == 4 and kind in _NV_FP4 and size == 16 and symmetric and isinstance(inputs, int | None):
        return Scheme(4, 16, inputs="none" if inputs is None or inputs >= 16 else "scale")
    what = f"bits {text(bits)}, data_type {text(kind)}, group_size {text(size)}"
    unknown.append(f"{CONFIG}: {where} is {what}, which is not NVFP4 as supported")
    return None


def _check_keys(inner: Config, known: set[str], unknown: list[str]) -> None:
    for key in sorted(inner.keys() - known):
        if inner[key] not in (None, False, [], {}):
            unknown.append(f"{CONFIG}: {key} = {text(inner[key])} of the quantization is not understood")
