"""Which tensors of a checkpoint can be read as BF16, and which are of a layout that is not known here.

A tensor is never taken for something else: codes copied as numbers would be served without a word.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.configuration import declared, read_quantization
from proofcard.checkpoint.roles import role
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.checkpoint.writer import Entry
from proofcard.errors import Stop, Usage

BLOCK = 16  # values that share a weight_scale
_NVFP4 = ("NVFP4", "W4A16_NVFP4")  # the same weights, for other activations
_MODELOPT = ("", "modelopt", "modelopt_fp4")
_NUMBERS = ("BF16", "F16", "F32", "F64", "I64", "I32", "BOOL")
_OF_A_LAYOUT = {  # what tensors are called that only a quantized weight has, and whose they are
    "weight_packed": "compressed-tensors", "weight_global_scale": "compressed-tensors",
    "input_global_scale": "compressed-tensors", "weight_shape": "compressed-tensors",
    "weight_zero_point": "compressed-tensors", "qweight": "GPTQ or AWQ", "qzeros": "GPTQ or AWQ",
    "g_idx": "GPTQ", "scales": "GPTQ or AWQ, or MXFP4", "blocks": "MXFP4",
    "pre_quant_scale": "NVFP4 with AWQ's scales of inputs", "weight_scale": "another quantization",
    "weight_scale_2": "another quantization", "weight_scale_inv": "FP8 in blocks",
    "input_scale": "another quantization",
}  # fmt: skip

Bits = Callable[[str], np.ndarray]


def readable(checkpoint: Path, config: dict[str, Any], cores: int) -> tuple[dict[str, Entry], Bits] | None:
    """Every tensor in BF16 or as stored, by name, and what gives the bits of each; None if none is quantized.

    Scales of weights, inputs and the KV cache are left out. `config` is the checkpoint's config.json.

    Raises:
        Usage: when something is of a layout that is not known; it is named.
        Stop: when a file is damaged.
    """
    tensors = read_folder(checkpoint)
    try:
        algorithm, method = declared(config, read_quantization(checkpoint))
    except Stop as error:
        raise Usage(str(error)) from None
    if method == "fp8":
        return _fp8(checkpoint)
    if algorithm in _NVFP4 and method in _MODELOPT:
        return _nvfp4(checkpoint, tensors, cores)
    if algorithm or method:
        named = algorithm if algorithm and method in _MODELOPT else method
        raise Usage(f"{checkpoint} is quantized as {named}: transformers_cpu serves NVFP4, FP8 and BF16")
    for name, tensor in tensors.items():
        if not _mask(tensor):
            _expect_number(checkpoint, name, tensor, "config.json names no quantization")
    return None


def _fp8(checkpoint: Path) -> tuple[dict[str, Entry], Bits]:
    source = Source(checkpoint)
    entries = {}
    for name in source.weights():
        tensor = source.tensors[name]
        if source.is_fp8(name):
            if len(tensor.shape) != 2:
                raise _unknown(checkpoint, name, tensor, "FP8 that is no matrix")
            try:
                source.fp8_scale(name)
            except Stop as stop:
                raise Usage(str(stop)) from None
        else:
            _expect_number(checkpoint, name, tensor, "it is no FP8 weight with its scales")
        entries[name] = Entry(name, source.dtype(name), tensor.shape)
    return entries, source.bits


def _nvfp4(checkpoint: Path, tensors: dict[str, Tensor], cores: int) -> tuple[dict[str, Entry], Bits]:
    packed = {name for name in tensors if _packed(checkpoint, name, tensors)}
    if not packed:
        raise Usage(
            f"{checkpoint} says that it is quantized to NVFP4 and has not one weight in it: see verify"
        )
    scales = {f"{name}{end}" for name in packed for end in ("_scale", "_scale_2")}
    scales |= {f"{name.removesuffix('weight')}input_scale" for name in packed}
    entries = {}
    for name, tensor in sorted(tensors.items()):
        if name in scales or role(name).startswith("KV cache"):
            continue
        if name in packed:
            entries[name] = Entry(name, "BF16", (tensor.shape[0], 2 * tensor.shape[1]))
        else:
            _expect_number(checkpoint, name, tensor, "it is no linear as ModelOpt packs it")
            entries[name] = Entry(name, tensor.dtype, tensor.shape)

    def bits(name: str) -> np.ndarray:
        if name not in packed:
            return tensors[name].bits()
        scale, scale_2 = tensors[f"{name}_scale"].bits(), tensors[f"{name}_scale_2"].bits()
        return nvfp4.dequantize(tensors[name].bits(), scale, np.float32(scale_2.reshape(())), threads=cores)

    return entries, bits


def _packed(checkpoint: Path, name: str, tensors: dict[str, Tensor]) -> bool:
    """Whether a tensor holds a linear's codes, two to a byte, with the scales that they need."""
    tensor = tensors[name]
    if tensor.dtype != "U8" or not name.endswith(".weight") or len(tensor.shape) != 2:
        return False
    scale, scale_2 = tensors.get(f"{name}_scale"), tensors.get(f"{name}_scale_2")
    if scale is None or scale_2 is None:
        lacks = "_scale" if scale is None else "_scale_2"
        raise _unknown(checkpoint, name, tensor, f"there is no {name}{lacks}")
    rows, half = tensor.shape
    if scale.dtype != "F8_E4M3" or scale.shape != (rows, 2 * half // BLOCK) or 2 * half % BLOCK:
        wanted = f"F8_E4M3 {[rows, 2 * half // BLOCK]}"
        raise _unknown(
            checkpoint, f"{name}_scale", scale, f"a scale for every {BLOCK} values would be {wanted}"
        )
    if scale_2.dtype != "F32" or prod(scale_2.shape) != 1:
        raise _unknown(checkpoint, f"{name}_scale_2", scale_2, "it is no single F32")
    return True


def _expect_number(checkpoint: Path, name: str, tensor: Tensor, otherwise: str) -> None:
    """Raises Usage unless a tensor is stored as the model uses it."""
    leaf = name.rpartition(".")[2]
    whose = next((w for end, w in _OF_A_LAYOUT.items() if leaf == end or leaf.endswith(f"_{end}")), None)
    if whose is not None:
        raise _unknown(checkpoint, name, tensor, f"as in {whose}")
    if tensor.dtype not in _NUMBERS:
        fused = len(tensor.shape) == 3 and "experts" in name
        raise _unknown(checkpoint, name, tensor, "fused experts in one tensor" if fused else otherwise)


def _mask(tensor: Tensor) -> bool:
    """Old checkpoints keep GPT-2's causal mask as bytes; no model reads it."""
    leaf = tensor.name.rpartition(".")[2]
    return leaf in ("bias", "masked_bias") and tensor.dtype == "U8" and len(tensor.shape) == 4


def _unknown(checkpoint: Path, name: str, tensor: Tensor, why: str) -> Usage:
    return Usage(
        f"{checkpoint}: {name} is {tensor.dtype} {list(tensor.shape)}, {why}. transformers_cpu reads "
        "linears in NVFP4 as ModelOpt packs them, FP8 in blocks, and BF16: serve this one on GPUs, with an "
        "engine that knows its layout"
    )
