"""Converts floating-point tensors, as raw bits, from the stored dtype to the model's."""

import numpy as np
from numpy.typing import NDArray

from proofcard.nvfp4 import bf16_to_f32, f32_to_bf16

_WIDE = ("F64", "F32", "F16", "BF16", "F8_E8M0")
_E8M0_NAN = 0xFF
_PIECE = 1 << 22  # values converted at a time: the float32 copy of a large tensor stays small


def is_float(dtype: str) -> bool:
    """Whether a safetensors dtype is a float that `converted` reads."""
    return dtype in _WIDE


def converted(bits: NDArray[np.generic], dtype: str, wanted: str) -> NDArray[np.generic]:
    """The same values in another dtype: exact from narrower dtypes to F32, round-to-nearest-even to BF16.

    `bits` come from `Tensor.bits`; the shape is kept. F64 goes through F32, as in torch.

    Raises:
        ValueError: for an unsupported pair of dtypes.
    """
    if dtype == wanted:
        return bits
    if dtype not in _WIDE or wanted not in ("F32", "BF16"):
        raise ValueError(f"{dtype} cannot be read as {wanted}")
    if wanted == "F32":
        return _to_f32(bits, dtype)
    flat = np.ascontiguousarray(bits).reshape(-1)
    rounded = np.empty(flat.size, np.uint16)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        rounded[start : start + _PIECE] = f32_to_bf16(_to_f32(piece, dtype))
    return rounded.reshape(bits.shape)


def _to_f32(bits: NDArray[np.generic], dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return bf16_to_f32(bits)
    if dtype == "F8_E8M0":  # an exponent alone: 2^(code - 127)
        powers = np.ldexp(1.0, bits.astype(np.int32) - 127)
        return np.where(bits == _E8M0_NAN, np.nan, powers).astype(np.float32)
    with np.errstate(over="ignore"):  # F64 beyond float32 becomes infinite, as in torch
        return bits.astype(np.float32)
