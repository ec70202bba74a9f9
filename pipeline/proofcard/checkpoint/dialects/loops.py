"""The loops of the dialects' formulas, compiled as `proofcard.nvfp4` compiles its own.

BF16 travels as uint16, E4M3 as uint8, float32 as itself. A block is `block` neighbours along a row.
"""

import numpy as np
from numpy import float32 as F32
from numpy import uint32 as U32

from proofcard.checkpoint.dialects import plain
from proofcard.nvfp4.compiled import (
    boolean,
    float32,
    int64,
    kernel,
    readable,
    uint8,
    uint16,
    uint32,
    void,
)
from proofcard.nvfp4.packing import bf16_value, e2m1_code, e4m3_code
from proofcard.nvfp4.unpacking import e2m1_value


def amaxes(bits: np.ndarray, block: int) -> np.ndarray:
    """max |W| of each block: uint16 [rows, cols] to float32 [rows, cols/block]."""
    found = np.empty((bits.shape[0], bits.shape[1] // block), F32)
    _amaxes(np.ascontiguousarray(bits).reshape(-1), block, found.reshape(-1), 0, found.size)
    return found


def e4m3(values: np.ndarray) -> np.ndarray:
    """float32 values ≥ 0 to the nearest E4M3 codes, ties to even; above 448 saturates. Same shape."""
    flat = np.ascontiguousarray(values, F32)
    codes = np.empty(flat.shape, np.uint8)
    _e4m3(flat.reshape(-1), codes.reshape(-1))
    return codes


def pack(bits: np.ndarray, steps: np.ndarray, block: int, *, multiply: bool, signed_zero: bool) -> np.ndarray:
    """Codes of `bits`, uint16 [rows, cols], for the blocks' float32 steps: uint8 [rows, cols/2].

    y = W / step, or W · step with `multiply`, each one float32 operation; to the nearest code, ties to the
    even one. Without `signed_zero` a negative that rounds to zero is 0x0, not 0x8.
    """
    packed = np.empty((bits.shape[0], bits.shape[1] // 2), np.uint8)
    pairs = np.ascontiguousarray(bits).reshape(-1).view(np.uint32)
    flat = np.ascontiguousarray(steps, F32).reshape(-1)
    _pack(pairs, flat, block // 2, multiply, signed_zero, packed.reshape(-1), 0, flat.size)
    return packed


def errors(bits: np.ndarray, packed: np.ndarray, steps: np.ndarray, block: int) -> np.ndarray:
    """Σ (W − value(code) · step)² of each block, summed in float32 from its first weight on."""
    found = np.empty(steps.shape, F32)
    pairs = np.ascontiguousarray(bits).reshape(-1).view(np.uint32)
    flat = np.ascontiguousarray(steps, F32).reshape(-1)
    _errors(pairs, np.ascontiguousarray(packed).reshape(-1), flat, block // 2, found.reshape(-1))
    return found


def unpack(packed: np.ndarray, steps: np.ndarray, block: int) -> np.ndarray:
    """value(code) · step in float32: uint8 [rows, cols/2] to float32 [rows, cols]."""
    values = np.empty((packed.shape[0], 2 * packed.shape[1]), F32)
    flat = np.ascontiguousarray(steps, F32).reshape(-1)
    _unpack(np.ascontiguousarray(packed).reshape(-1), flat, block // 2, values.reshape(-1))
    return values


@kernel(void(readable(uint16), int64, float32[::1], int64, int64), plain.amaxes)
def _amaxes(bits: np.ndarray, block: int, out: np.ndarray, begin: int, end: int) -> None:
    for at in range(begin, end):
        largest = np.uint16(0)
        for i in range(block):
            largest = max(largest, np.uint16(bits[at * block + i] & np.uint16(0x7FFF)))
        out[at] = bf16_value(U32(largest))


@kernel(void(readable(float32), uint8[::1]), plain.e4m3)
def _e4m3(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(values.size):
        out[i] = e4m3_code(values[i])


@kernel(
    void(readable(uint32), readable(float32), int64, boolean, boolean, uint8[::1], int64, int64), plain.pack
)
def _pack(
    pairs: np.ndarray, steps: np.ndarray, half: int, multiply: bool, signed_zero: bool,
    packed: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    for block in range(begin, end):
        step = steps[block]
        for i in range(block * half, block * half + half):
            even = bf16_value(pairs[i])
            odd = U32(pairs[i] & U32(0xFFFF0000)).view(F32)
            even = F32(even * step) if multiply else F32(even / step)
            odd = F32(odd * step) if multiply else F32(odd / step)
            low, high = e2m1_code(even), e2m1_code(odd)
            if not signed_zero:
                low = U32(0) if low == U32(8) else low
                high = U32(0) if high == U32(8) else high
            packed[i] = low | (high << U32(4))


@kernel(void(readable(uint32), readable(uint8), readable(float32), int64, float32[::1]), plain.errors)
def _errors(pairs: np.ndarray, packed: np.ndarray, steps: np.ndarray, half: int, out: np.ndarray) -> None:
    for block in range(steps.size):
        step, total = steps[block], F32(0)
        for i in range(block * half, block * half + half):
            byte = U32(packed[i])
            low = F32(bf16_value(pairs[i]) - F32(e2m1_value(byte & U32(15)) * step))
            total = F32(total + F32(low * low))
            odd = U32(pairs[i] & U32(0xFFFF0000)).view(F32)
            high = F32(odd - F32(e2m1_value(byte >> U32(4)) * step))
            total = F32(total + F32(high * high))
        out[block] = total


@kernel(void(readable(uint8), readable(float32), int64, float32[::1]), plain.unpack)
def _unpack(packed: np.ndarray, steps: np.ndarray, half: int, values: np.ndarray) -> None:
    for block in range(steps.size):
        step = steps[block]
        for i in range(block * half, block * half + half):
            byte = U32(packed[i])
            values[2 * i] = F32(e2m1_value(byte & U32(15)) * step)
            values[2 * i + 1] = F32(e2m1_value(byte >> U32(4)) * step)
