"""Linears in FP8 beside those in NVFP4: one scale for the tensor or for each row, E4M3 codes.

| maker | scale | code |
|---|---|---|
| ModelOpt, a scale for the tensor | A / 448, F32 [] | e4m3(bf16(W / scale)) |
| ModelOpt, a scale for each row | A / 448, F32 [rows] | e4m3(W / scale) |
| llm-compressor, either | bf16(A / 448), BF16 [1] or [rows, 1] | e4m3(bf16(W / scale)) |

PyTorch rounds a BF16 tensor divided by a scalar tensor to BF16; divided by a float32 vector it stays float32.
"""

from typing import Any

import numpy as np

from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import bf16_to_f32, f32_to_bf16

Array = np.ndarray[Any, Any]
F32 = np.float32

_WINDOW = 1 << 22  # weights at a time
_EPSILON = F32(2.0**-7)  # of BF16: what compressed-tensors writes instead of a zero scale


def wanted_scale(bits: Array, scale: Tensor) -> Array:
    """The scale that follows from a BF16 weight: raw bits in the dtype and shape that `scale` is stored in.

    Raises:
        ValueError: for a shape that is neither one number nor one for each row.
    """
    rows = len(bits)
    if scale.size and scale.shape in ((), (1,)):
        largest = bf16_to_f32((bits & np.uint16(0x7FFF)).max().reshape(1)) if bits.size else np.zeros(1, F32)
    elif scale.shape in ((rows,), (rows, 1)):
        largest = bf16_to_f32((bits & np.uint16(0x7FFF)).max(axis=1))
    else:
        raise ValueError(f"{scale.name} is {list(scale.shape)}: an FP8 linear has one scale, or one a row")
    values = (largest / F32(448)).astype(F32)
    if scale.dtype == "F32":
        return values.reshape(scale.shape)
    bits16 = f32_to_bf16(values)
    bits16[bits16 == 0] = f32_to_bf16(np.array(_EPSILON))
    return np.asarray(bits16.reshape(scale.shape))


def codes(bits: Array, scale: Array, dtype: str) -> Array:
    """E4M3 codes of a BF16 weight for a scale in raw bits, `dtype` F32 or BF16: uint8 [rows, cols]."""
    from proofcard.checkpoint.dialects.loops import e4m3

    rows, columns = bits.shape
    each = (bf16_to_f32(scale) if dtype == "BF16" else scale).reshape(-1, 1).astype(F32)
    rounds = dtype == "BF16" or each.size == 1
    found = np.empty(bits.shape, np.uint8)
    height = max(1, _WINDOW // max(1, columns))
    for first in range(0, rows, height):
        part = slice(first, first + height)
        with np.errstate(all="ignore"):
            y = bf16_to_f32(bits[part]) / (each if each.size == 1 else each[part])
        y = bf16_to_f32(f32_to_bf16(y)) if rounds else y
        found[part] = e4m3(np.abs(y)) | (np.signbit(y).astype(np.uint8) << 7)
    return found
