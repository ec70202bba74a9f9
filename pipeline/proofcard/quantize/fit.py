"""Checks a source's tensors against the model that its config.json describes.

Multi-token prediction (MTP) heads are not part of the pinned model classes: their tensors are copied into the
checkpoint in BF16. What a model computes itself, such as rotary frequencies, is skipped. Any other tensor
that the model does not have is refused, and so is a weight that is missing or has the wrong shape.
"""

import re
from collections.abc import Iterable
from math import prod
from typing import Any

from proofcard.checkpoint import floats, fp8
from proofcard.checkpoint.source import Source
from proofcard.errors import Stop

_COMPUTED = (r"rotary_emb\.inv_freq$",)
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_MTP = re.compile(r"(?:^|\.)(?:mtp|mtp_[a-z]+|nextn)\.")
_ROUTING_BIASES = (".e_score_correction_bias", ".expert_bias")
_FUSED = re.compile(r"\.experts\.[a-z]\w*(?:\.\w+)?$")  # where `.experts.0.` would name one of them


def check(source: Source, model: Any) -> None:
    """Check names, shapes, dtypes, and FP8 weights against their scales, without reading any weight.

    Raises:
        Stop: naming the first tensor that is missing, unexpected, or of the wrong shape or dtype.
    """
    if not fp8.is_declared(source.config) and (fp8_name := _first(source, "F8_E4M3")):
        raise Stop(
            f"{source.path}: {fp8_name} is FP8, but config.json has no quantization_config with its block "
            "size"
        )
    fp8.check(source.tensors, source.block, source.path)
    known, stored = model.state_dict(), set(source.weights())
    mtp_names = set(mtp_tensors(source, model))
    unknown = sorted(name for name in stored - known.keys() - mtp_names if not _is_computed(name, model))
    if fused := [name for name in unknown if _FUSED.search(name) and len(source.tensors[name].shape) == 3]:
        raise Stop(
            f"{source.path}: {fused[0]}, {list(source.tensors[fused[0]].shape)}, holds all experts of a "
            "layer in one tensor: fused experts are not supported; use a source with one weight per expert"
        )
    missing = sorted(known.keys() - stored - tied(model))
    if missing:
        hint = ""
        if missing[0] == "lm_head.weight":
            hint = "; config.json does not tie it to the embedding (tie_word_embeddings)"
        raise Stop(
            f"{source.path} is incomplete: {missing[0]} is missing ({len(missing)} weights in all){hint}"
        )
    if unknown:
        raise Stop(
            f"{source.path} has the unexpected tensor {unknown[0]} ({len(unknown)} in all): "
            f"{type(model).__name__} in the pinned transformers would ignore it"
        )
    for name in sorted(stored & known.keys()):
        _check_one(source, name, known[name])
    for name in sorted(mtp_names):
        _check_dtype(source, name)
    if fused_name := next(
        (name for name, value in known.items() if ".experts." in name and value.ndim == 3), None
    ):
        raise Stop(
            f"{type(model).__name__} keeps all experts of a layer in one tensor ({fused_name}): fused "
            "experts "
            "are not supported"
        )


def _first(source: Source, dtype: str) -> str | None:
    return next((name for name in sorted(source.tensors) if source.tensors[name].dtype == dtype), None)


def _check_one(source: Source, name: str, value: Any) -> None:
    tensor = source.tensors[name]
    if tensor.shape != tuple(value.shape):
        raise Stop(
            f"{source.path}: {name} in {tensor.path.name} has shape {list(tensor.shape)}; the model that "
            f"config.json describes has {list(value.shape)}"
        )
    if prod(tensor.shape) == 0:
        raise Stop(f"{source.path}: {name} in {tensor.path.name} is empty, {list(tensor.shape)}")
    if value.is_floating_point():
        _check_dtype(source, name)


def _check_dtype(source: Source, name: str) -> None:
    tensor = source.tensors[name]
    if not source.is_fp8(name) and (not floats.is_float(tensor.dtype) or tensor.dtype == "F8_E8M0"):
        raise Stop(
            f"{source.path}: {name} in {tensor.path.name} is {tensor.dtype}: weights are read from BF16, "
            "F16, F32 and FP8 with block scales"
        )


def mtp_tensors(source: Source, model: Any) -> list[str]:
    """Names of the tensors of MTP heads, which the model's class does not have."""
    known = model.state_dict().keys()
    layers = int(model.config.num_hidden_layers)
    declared = source.config.get("num_nextn_predict_layers") or 0
    heads = declared if isinstance(declared, int) else 0

    def is_mtp(name: str) -> bool:
        number = _LAYER.search(name)
        beyond = number is not None and layers <= int(number[1]) < layers + heads
        return beyond or _MTP.search(name) is not None

    return sorted(name for name in source.weights() if name not in known and is_mtp(name))


def exclude_patterns(names: Iterable[str]) -> list[str]:
    """Patterns for exclude lists that cover the modules of MTP heads: `model.layers.61*`, `mtp*`."""
    patterns = set()
    for name in names:
        head = _MTP.search(name)
        layer = _LAYER.search(name)
        end = head.end() - 1 if head else layer.end() - 1 if layer else len(name)
        patterns.add(f"{name[:end]}*")
    return sorted(patterns)


def _is_computed(name: str, model: Any) -> bool:
    """Whether the model computes a tensor itself, so that a stored one is skipped."""
    patterns = (*_COMPUTED, *(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()))
    return any(re.search(pattern, name) for pattern in patterns)


def tied(model: Any) -> set[str]:
    """Names of the weights that the model declares as tied to another one."""
    return (
        set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    )


def held_in(source: Source, model: Any) -> dict[str, str]:
    """The safetensors dtype of each float tensor of a model after `from_pretrained(dtype=bfloat16)`.

    That is the dtype in which its class creates it, and F32 for what the class keeps in F32 in any case.
    Routing biases stored in F32 stay F32: servers add them to scores in F32. MTP heads have no class: their
    matrices become BF16, their vectors keep the stored dtype, F16 becomes BF16.
    """
    import torch

    kept_in_f32 = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    always = re.compile("|".join(rf"((^|\.){module}($|\.))" for module in sorted(kept_in_f32)) or r"(?!)")
    names = {torch.bfloat16: "BF16", torch.float32: "F32"}
    dtypes = {
        name: "F32" if always.search(name) else names[value.dtype]
        for name, value in model.state_dict().items()
        if value.dtype in names
    }
    biases = (name for name in dtypes if name.endswith(_ROUTING_BIASES) and name in source.tensors)
    dtypes |= {name: "F32" for name in biases if source.tensors[name].dtype == "F32"}
    for name in mtp_tensors(source, model):
        tensor = source.tensors[name]
        if tensor.dtype == "F16" or (tensor.dtype in ("F32", "F64") and len(tensor.shape) > 1):
            dtypes[name] = "BF16"
    return dtypes
