"""The tensors of a source held to the model that its config.json describes: each has its place, or a rule.

A further head that predicts more than the next token (MTP) is no part of the pinned classes: its tensors go
into the checkpoint in BF16. What a model computes itself, such as rotation frequencies, is left out. Anything
else that the model does not know is refused, and so is a weight that is missing or has another shape.
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
_FURTHER = re.compile(r"(?:^|\.)(?:mtp|mtp_[a-z]+|nextn)\.")
_ROUTING_BIASES = (".e_score_correction_bias", ".expert_bias")
_FUSED = re.compile(r"\.experts\.[a-z]\w*(?:\.\w+)?$")  # where `.experts.0.` would name one of them


def check(source: Source, model: Any) -> None:
    """Names, shapes and dtypes, and FP8 weights with their scales. Reads no weight.

    Raises:
        Stop: naming the first tensor that is missing, unknown, or cannot be what the model needs.
    """
    if not fp8.is_declared(source.config) and (eight := _first(source, "F8_E4M3")):
        raise Stop(
            f"{source.path}: {eight} is FP8, and config.json has no quantization_config that says in what "
            "blocks"
        )
    fp8.check(source.tensors, source.block, source.path)
    known, given = model.state_dict(), set(source.weights())
    further_names = set(further(source, model))
    unknown = sorted(name for name in given - known.keys() - further_names if not _is_computed(name, model))
    if fused := [name for name in unknown if _FUSED.search(name) and len(source.tensors[name].shape) == 3]:
        raise Stop(
            f"{source.path}: {fused[0]}, {list(source.tensors[fused[0]].shape)}, holds all experts of a "
            "layer in one tensor: such layouts are not read; give a source with a weight for each expert"
        )
    absent = sorted(known.keys() - given - tied(model))
    if absent:
        hint = ""
        if absent[0] == "lm_head.weight":
            hint = "; config.json does not say that it is tied to the embedding (tie_word_embeddings)"
        raise Stop(f"{source.path} lacks {absent[0]} ({len(absent)} weights in all): it is not whole{hint}")
    if unknown:
        raise Stop(
            f"{source.path} holds {unknown[0]} ({len(unknown)} in all), which its model does not know: "
            f"{type(model).__name__} of the pinned transformers would leave it out"
        )
    for name in sorted(given & known.keys()):
        _check_one(source, name, known[name])
    for name in sorted(further_names):
        _check_dtype(source, name)
    if three := next(
        (name for name, value in known.items() if ".experts." in name and value.ndim == 3), None
    ):
        raise Stop(
            f"{type(model).__name__} keeps all experts of a layer in one tensor ({three}): such layouts are "
            "not quantized here"
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


def further(source: Source, model: Any) -> list[str]:
    """Names of the tensors of heads that predict further tokens, which the model's class does not have."""
    known = model.state_dict().keys()
    layers = int(model.config.num_hidden_layers)
    declared = source.config.get("num_nextn_predict_layers") or 0
    heads = declared if isinstance(declared, int) else 0

    def is_further(name: str) -> bool:
        number = _LAYER.search(name)
        beyond = number is not None and layers <= int(number[1]) < layers + heads
        return beyond or _FURTHER.search(name) is not None

    return sorted(name for name in source.weights() if name not in known and is_further(name))


def modules_of(names: Iterable[str]) -> list[str]:
    """Patterns that cover the modules of further heads, for exclude lists: `model.layers.61*`, `mtp*`."""
    found = set()
    for name in names:
        head = _FURTHER.search(name)
        layer = _LAYER.search(name)
        end = head.end() - 1 if head else layer.end() - 1 if layer else len(name)
        found.add(f"{name[:end]}*")
    return sorted(found)


def _is_computed(name: str, model: Any) -> bool:
    """Whether the model makes a tensor itself, and its class says that a stored one is to be left out."""
    patterns = (*_COMPUTED, *(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()))
    return any(re.search(pattern, name) for pattern in patterns)


def tied(model: Any) -> set[str]:
    """Names of the weights that the model declares to be another one's."""
    return (
        set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    )


def held_in(source: Source, model: Any) -> dict[str, str]:
    """The safetensors dtype of each float of a model, as `from_pretrained(dtype=bfloat16)` would hold it.

    That is the dtype in which its class makes it, and F32 for what the class keeps in it whatever is asked.
    Routing biases that the source has in F32 stay so: servers add them to scores in F32. Of further heads no
    class is known: matrices are in BF16, vectors as they are stored, but none in F16.
    """
    import torch

    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    always = re.compile("|".join(rf"((^|\.){module}($|\.))" for module in sorted(kept)) or r"(?!)")
    names = {torch.bfloat16: "BF16", torch.float32: "F32"}
    held = {
        name: "F32" if always.search(name) else names[value.dtype]
        for name, value in model.state_dict().items()
        if value.dtype in names
    }
    biases = (name for name in held if name.endswith(_ROUTING_BIASES) and name in source.tensors)
    held |= {name: "F32" for name in biases if source.tensors[name].dtype == "F32"}
    for name in further(source, model):
        tensor = source.tensors[name]
        if tensor.dtype == "F16" or (tensor.dtype in ("F32", "F64") and len(tensor.shape) > 1):
            held[name] = "BF16"
    return held
