"""Reads a checkpoint's tensors as BF16, and refuses layouts that are not supported.

A tensor is never mistaken for another kind: packed codes copied as numbers would silently be served. Linears
in NVFP4 are read as ModelOpt, llm-compressor and auto-round store them (`checkpoint.dialects.layouts`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.configuration import declared, read_quantization
from proofcard.checkpoint.dialects import rules
from proofcard.checkpoint.dialects.layouts import COMPRESSED, MODELOPT, Layout, block_of
from proofcard.checkpoint.dialects.view import View, viewed
from proofcard.checkpoint.roles import role
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.checkpoint.writer import Entry
from proofcard.errors import Stop, Usage

BLOCK = 16  # values that share a weight_scale, where inputs are quantized too
_NVFP4 = ("NVFP4", "W4A16_NVFP4")  # the same weights with different activations
_MODELOPT = ("", "modelopt", "modelopt_fp4")
_COMPRESSED = ("compressed-tensors", "auto-round")
_CHANGING = (
    "transform_config",
    "sparsity_config",
)  # parts of compressed-tensors that change what weights mean
_NUMBERS = ("BF16", "F16", "F32", "F64", "I64", "I32", "BOOL")
_OF_A_LAYOUT = {  # suffixes of tensors that only quantized weights have, with their format
    "weight_packed": "compressed-tensors", "weight_global_scale": "compressed-tensors",
    "input_global_scale": "compressed-tensors", "weight_shape": "compressed-tensors",
    "weight_zero_point": "compressed-tensors", "qweight": "GPTQ or AWQ", "qzeros": "GPTQ or AWQ",
    "g_idx": "GPTQ", "scales": "GPTQ or AWQ, or MXFP4", "blocks": "MXFP4",
    "pre_quant_scale": "NVFP4 with AWQ input scales", "weight_scale": "another quantization",
    "weight_scale_2": "another quantization", "weight_scale_inv": "FP8 in blocks",
    "input_scale": "another quantization",
}  # fmt: skip

_MAKERS = {MODELOPT: "ModelOpt", COMPRESSED: "llm-compressor"}

Bits = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Linear:
    """A linear in NVFP4: codes U8 [rows, columns / 2], E4M3 scales [rows, columns / block], one F32 `shared`.

    `inputs` is the second-level scale of its input, None where inputs are not quantized.
    """

    codes: Tensor
    scales: Tensor
    shared: Tensor
    inputs: Tensor | None
    layout: Layout
    block: int

    def bits(self, cores: int) -> np.ndarray:
        """BF16 bits [rows, columns]: bf16(value(code) · width), the width as the layout's maker computes it.

        ModelOpt: float32(weight_scale) · weight_scale_2; compressed-tensors: float32(weight_scale) /
        weight_global_scale.

        Raises:
            Stop: as `second_level`.
        """
        codes, scales = self.codes.bits(), self.scales.bits()
        if self.layout is MODELOPT and self.block == BLOCK:
            shared = np.float32(self.shared.bits().reshape(()))
            return nvfp4.dequantize(codes, scales, shared, threads=cores)
        from proofcard.checkpoint.dialects import loops  # numba takes most of a second to import

        widths = rules.widths(scales, self.second_level(), self.layout)
        return nvfp4.f32_to_bf16(loops.unpack(codes, widths, self.block))

    def second_level(self) -> np.float32:
        """`shared`. Raises Stop unless it is a finite number above zero: a scale may be divided by it."""
        shared = np.float32(self.shared.bits().reshape(()))
        if not (np.isfinite(shared) and shared > 0):
            raise Stop(f"{self.shared.name} is not a finite number above zero: see proofcard verify")
        return shared


@dataclass
class Weights:
    """What a checkpoint holds: `entries` as the model has them, by name, with a function for their bits.

    `linears` are those in NVFP4, by the names of their weights; `view` has everything that is stored, scales
    too. `source` is the source that was given, in the same pieces.
    """

    entries: dict[str, Entry]
    bits: Bits
    view: View
    linears: dict[str, Linear] = field(default_factory=dict)
    source: Source | None = None


def readable(
    checkpoint: Path, config: dict[str, Any], cores: int, source: Source | None = None
) -> Weights | None:
    """Every tensor in BF16 or as stored; None if none is quantized.

    Scales of weights, inputs and the KV cache are left out. `config` is the checkpoint's config.json. With a
    `source`, names are the source's.

    Raises:
        Usage: naming a tensor in an unsupported layout.
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
        return _nvfp4(checkpoint, *viewed(tensors, source, compressed=False), MODELOPT, cores)
    if method in _COMPRESSED:
        _check_unchanged(checkpoint, config)
        return _nvfp4(checkpoint, *viewed(tensors, source), COMPRESSED, cores)
    if algorithm or method:
        named = algorithm if algorithm and method in _MODELOPT else method
        raise Usage(
            f"{checkpoint} is quantized as {named}: only NVFP4, FP8 in blocks and BF16 are supported here"
        )
    for name, tensor in tensors.items():
        if not _mask(tensor):
            _expect_number(checkpoint, name, tensor, "although config.json has no quantization")
    return None


def _check_unchanged(checkpoint: Path, config: dict[str, Any]) -> None:
    """Raise Usage where compressed-tensors' configuration changes what the weights mean."""
    for place in (config, config.get("text_config")):
        part = place.get("quantization_config") if isinstance(place, dict) else None
        for key in _CHANGING:
            if isinstance(part, dict) and part.get(key):
                raise Usage(
                    f"{checkpoint}: config.json has a {key}, which is not supported here: serve this one on "
                    "GPUs with an engine that supports it"
                )


def _fp8(checkpoint: Path) -> Weights:
    source = Source(checkpoint)
    entries = {}
    for name in source.weights():
        tensor = source.tensors[name]
        if source.is_fp8(name):
            if len(tensor.shape) != 2:
                raise _unknown(checkpoint, tensor, "FP8 but not a matrix")
            try:
                source.fp8_scale(name)
            except Stop as stop:
                raise Usage(str(stop)) from None
        else:
            _expect_number(checkpoint, name, tensor, "which is not an FP8 weight with scales")
        entries[name] = Entry(name, source.dtype(name), tensor.shape)
    return Weights(entries, source.bits, View(source.tensors))


def _nvfp4(checkpoint: Path, view: View, source: Source | None, layout: Layout, cores: int) -> Weights:
    tensors = view.tensors
    linears = {name: linear for name in tensors if (linear := _linear(checkpoint, name, view, layout))}
    if not linears:
        raise Usage(f"{checkpoint} declares NVFP4 quantization but has no NVFP4 weight: see verify")
    scales = {f"{name}{end}" for name in linears for end in ("_scale", "_scale_2")}
    scales |= {f"{name.removesuffix('weight')}input_scale" for name in linears}
    entries = {}
    for name, tensor in sorted(tensors.items()):
        if name in scales or role(name).startswith("KV cache"):
            continue
        if name in linears:
            entries[name] = Entry(name, "BF16", (tensor.shape[0], 2 * tensor.shape[1]))
        else:
            _expect_number(checkpoint, name, tensor, f"which is not a linear as packed by {_MAKERS[layout]}")
            entries[name] = Entry(name, tensor.dtype, tensor.shape)

    def bits(name: str) -> np.ndarray:
        linear = linears.get(name)
        return tensors[name].bits() if linear is None else linear.bits(cores)

    return Weights(entries, bits, view, linears, source)


def _linear(checkpoint: Path, name: str, view: View, layout: Layout) -> Linear | None:
    """A linear of this layout, by the name of its weight: codes, two in a byte, and their scales."""
    codes, module = view.tensors[name], name.removesuffix(".weight")
    if (
        codes.dtype != "U8"
        or module == name
        or len(codes.shape) != 2
        or view.layouts.get(module) is not layout
    ):
        return None
    rest = [
        view.tensors.get(f"{module}.{leaf}") for leaf in ("weight_scale", "weight_scale_2", "input_scale")
    ]
    scales, shared, inputs = rest
    if scales is None or shared is None:
        missing = view.stored_as(f"{name}{'_scale' if scales is None else '_scale_2'}")
        raise _unknown(checkpoint, codes, f"but {missing} is missing")
    block = block_of(codes, scales)
    rows, half = codes.shape
    if scales.dtype != "F8_E4M3" or block is None:
        wanted = f"F8_E4M3 {[rows, 2 * half // BLOCK]}"
        raise _unknown(checkpoint, scales, f"but one scale per {BLOCK} values needs {wanted}")
    for each in (shared, inputs):
        if each is not None and (each.dtype != "F32" or prod(each.shape) != 1):
            raise _unknown(checkpoint, each, "which is not a single F32")
    return Linear(codes, scales, shared, inputs, layout, block)


def _expect_number(checkpoint: Path, name: str, tensor: Tensor, otherwise: str) -> None:
    """Raise Usage unless a tensor is stored as the model uses it."""
    leaf = name.rpartition(".")[2]
    whose = next((w for end, w in _OF_A_LAYOUT.items() if leaf == end or leaf.endswith(f"_{end}")), None)
    if whose is not None:
        raise _unknown(checkpoint, tensor, f"as in {whose}")
    if tensor.dtype not in _NUMBERS:
        fused = len(tensor.shape) == 3 and "experts" in name
        raise _unknown(checkpoint, tensor, "fused experts in one tensor" if fused else otherwise)


def _mask(tensor: Tensor) -> bool:
    """Whether it is GPT-2's causal mask, which old checkpoints store as bytes and no model reads."""
    leaf = tensor.name.rpartition(".")[2]
    return leaf in ("bias", "masked_bias") and tensor.dtype == "U8" and len(tensor.shape) == 4


def _unknown(checkpoint: Path, tensor: Tensor, why: str) -> Usage:
    return Usage(
        f"{checkpoint}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}, {why}. Linears can be in NVFP4 "
        "as ModelOpt, llm-compressor or auto-round packs it, in FP8 in blocks, or in BF16: serve this one on "
        "GPUs with an engine that supports its layout"
    )
