"""NVFP4, the number format: pure functions of arrays, no model, no torch.

A weight [rows, cols] is stored as E2M1 codes (two in a byte, the even column in the low half), one E4M3
scale for every 16 columns, and one float32 scale for the whole. The formulas are those that ModelOpt
0.43.0 runs on a CPU (`torch/quantization/qtensor/nvfp4_tensor.py`), and the bytes are equal.

Arrays travel as raw bits: BF16 as uint16, E4M3FN as uint8, packed FP4 as uint8, float32 as itself. Inputs
may be read-only, unaligned (a mapped file) or strided (copied then). `threads` never changes a byte.

    scale_2 = weight_scale_2(amax(weight))      # of gate and up, the larger amax serves both
    packed, scale = quantize(weight, scale_2)
    weight_again = dequantize(packed, scale, scale_2)

FP8 sources with block scales go through `fp8_block_to_bf16`, whose rule `amax_fp8` and `quantize_fp8`
follow without making that array. `fp8_block_to_f32` is that product before it is rounded; from it ModelOpt
takes the block scales, and they alone, of a model that stays in FP8 until it is exported.
"""

from typing import TYPE_CHECKING, Any

from proofcard.nvfp4.bits import BLOCK, FP8_BLOCK, bf16_to_f32, e4m3_to_f32, f32_to_bf16
from proofcard.nvfp4.scales import input_scale, kv_scale, shared_amaxes, weight_scale_2

if TYPE_CHECKING:
    from proofcard.nvfp4.compiled import kernels
    from proofcard.nvfp4.fp8 import (
        amax_fp8,
        block_amaxes_fp8,
        fp8_block_to_bf16,
        fp8_block_to_f32,
        quantize_fp8,
    )
    from proofcard.nvfp4.packing import amax, quantize
    from proofcard.nvfp4.unpacking import dequantize

__all__ = [
    "BLOCK",
    "FP8_BLOCK",
    "amax",
    "amax_fp8",
    "bf16_to_f32",
    "block_amaxes_fp8",
    "dequantize",
    "e4m3_to_f32",
    "f32_to_bf16",
    "fp8_block_to_bf16",
    "fp8_block_to_f32",
    "input_scale",
    "kernels",
    "kv_scale",
    "quantize",
    "quantize_fp8",
    "shared_amaxes",
    "weight_scale_2",
]


def __getattr__(name: str) -> Any:
    """numba takes most of a second to import: whoever only reads scales need not wait for it."""
    if name in __all__:
        from proofcard.nvfp4 import compiled, fp8, packing, unpacking

        homes = (packing, fp8, unpacking, compiled)
        return next(getattr(home, name) for home in homes if hasattr(home, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
