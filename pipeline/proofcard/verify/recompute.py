"""What a checkpoint should hold, computed from the source: thin over `proofcard.nvfp4`."""

from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.checkpoint.tensors import Tensor

Packed = dict[str, np.ndarray]
"""`weight`, `weight_scale` and `weight_scale_2` of one linear, raw bits, the last a float32 scalar."""


def amax(source: Source, module: str) -> np.float32:
    """max |W| of the weight in BF16. Raises ValueError for a dtype that the formulas do not cover."""
    weight, scale_inv = operands(source, module)
    if scale_inv is None:
        return nvfp4.amax(weight)
    return nvfp4.amax_fp8(weight, scale_inv, block=source.block)


def group_scale_2(source: Source, group: tuple[str, ...]) -> np.float32:
    """weight_scale_2 of linears that share one. Raises ValueError as `amax` does."""
    return nvfp4.weight_scale_2(max(amax(source, module) for module in group))


def quantize(source: Source, module: str, scale_2: np.float32, float32: bool = False) -> Packed:
    """What the checkpoint should hold of one linear; `float32`: with dequantize_to=float32."""
    weight, scale_inv = operands(source, module)
    if scale_inv is None:
        packed, scale = nvfp4.quantize(weight, scale_2)
    else:
        packed, scale = nvfp4.quantize_fp8(
            weight, scale_inv, scale_2, block=source.block, unrounded_scales=float32
        )
    return {"weight": packed, "weight_scale": scale, "weight_scale_2": np.array(scale_2)}


def plain(source: Source, name: str, float32: bool = False) -> tuple[np.ndarray, str]:
    """Bits and dtype that the checkpoint should hold of a weight that is not quantized."""
    if float32 and source.is_fp8(name):
        return source.unrounded(name), "F32"
    return source.bits(name), source.dtype(name)


def dequantized_to_float32(source: Source, tensors: dict[str, Tensor], sealed: dict[str, Any] | None) -> bool:
    """Whether FP8 weights went through float32: the manifest says so or, without one, the tensors do.

    Those that are not packed are F32 then, and hold what BF16 could not.
    """
    try:
        if sealed is not None:
            return bool(sealed["config"]["quantization"]["dequantize_to"] == "float32")
    except (KeyError, TypeError):
        pass
    kept = [tensor for name, tensor in tensors.items() if source.is_fp8(name) and tensor.dtype != "U8"]
    if not kept or any(tensor.dtype != "F32" for tensor in kept):
        return False
    return any(bool((tensor.bits().view(np.uint32) & 0xFFFF).any()) for tensor in kept)


def operands(source: Source, module: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The source's own bits: a BF16 weight and None, or an FP8 weight and its scale_inv."""
    tensor = source.tensors[f"{module}.weight"]
    if tensor.dtype == "F8_E4M3":
        scale = source.tensors.get(tensor.name + SCALE_SUFFIX)
        if scale is None:
            raise ValueError(f"the source has it in FP8 without weight{SCALE_SUFFIX}")
        return tensor.bits(), scale.bits()
    if tensor.dtype != "BF16":
        raise ValueError(f"the source has it in {tensor.dtype}; NVFP4 is recomputed from BF16 and FP8 only")
    return tensor.bits(), None
