"""NVFP4 back to BF16."""

import numpy as np
from numpy import float32 as F32
from numpy import uint32 as U32

from proofcard.nvfp4 import plain
from proofcard.nvfp4.bits import BLOCK, E4M3_VALUES
from proofcard.nvfp4.checks import expect_matrix
from proofcard.nvfp4.compiled import (
    GRAIN,
    float32,
    inline,
    int64,
    kernel,
    readable,
    spread,
    uint8,
    uint32,
    void,
)
from proofcard.nvfp4.packing import CHUNK, bf16_bits


def dequantize(
    packed: np.ndarray, scale: np.ndarray, scale_2: float | np.floating, *, threads: int = 1
) -> np.ndarray:
    """Packed FP4 and its scales to BF16 bits, uint16 [rows, cols].

    bf16(value(code) · (float32(scale) · scale_2)), as `NVFP4QTensor.dequantize` to BF16; code 8 (a
    negative that rounded to zero) comes back as +0.0.
    """
    expect_matrix(packed, "packed", np.uint8)
    expect_matrix(scale, "scale", np.uint8)
    rows, half = packed.shape
    if 2 * half != BLOCK * scale.shape[1] or rows != scale.shape[0]:
        raise ValueError(f"packed {packed.shape} and scale {scale.shape} are not of one weight")
    bits = np.empty((rows, 2 * half), np.uint16)
    codes, scales = np.ascontiguousarray(packed).reshape(-1), np.ascontiguousarray(scale).reshape(-1)
    pairs = bits.reshape(-1).view(np.uint32)
    factor = np.float32(scale_2)

    def unpack(begin: int, end: int) -> None:
        _dequantize_blocks(codes, scales, factor, pairs, begin, end)

    spread(unpack, scale.size, GRAIN // BLOCK, threads)
    return bits


@kernel(void(readable(uint8), readable(uint8), float32, uint32[::1], int64, int64), plain.dequantize_blocks)
def _dequantize_blocks(
    packed: np.ndarray, scale: np.ndarray, scale_2: F32, pairs: np.ndarray, begin: int, end: int
) -> None:
    """Codes times their block's step, back to BF16 pairs."""
    step = np.empty(8 * CHUNK, F32)
    for start in range(begin, end, CHUNK):
        stop = min(end, start + CHUNK)
        for block in range(stop - start):
            value = F32(E4M3_VALUES[scale[start + block]] * scale_2)
            for i in range(8):
                step[np.uint64(8 * block + i)] = value
        codes, out = packed[8 * start : 8 * stop], pairs[8 * start : 8 * stop]
        for i in range(codes.size):
            byte = U32(codes[i])
            even = bf16_bits(F32(e2m1_value(byte & U32(15)) * step[i]))
            odd = bf16_bits(F32(e2m1_value(byte >> U32(4)) * step[i]))
            out[i] = even | (odd << U32(16))


@inline
def e2m1_value(code: U32) -> F32:
    """Twice the size is one hex digit of the constant. Code 8 is +0.0: ModelOpt's table has 0 there."""
    twice = np.int32((U32(0xC8643210) >> (U32(4) * (code & U32(7)))) & U32(0xF))
    return F32(-twice if code >= U32(8) else twice) * F32(0.5)
