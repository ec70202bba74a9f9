"""The loops of `loops` once more in numpy, where numba is not installed: the same arguments and bytes."""

import numpy as np

from proofcard.nvfp4.bits import bf16_to_f32
from proofcard.nvfp4.plain import E2M1_PAIRS, e2m1_codes, e4m3_codes

_CHUNK = 1 << 16  # weights at a time


def amaxes(bits: np.ndarray, block: int, out: np.ndarray, begin: int, end: int) -> None:
    """As `loops._amaxes`."""
    for first in range(begin, end, step := max(1, _CHUNK // block)):
        last = min(end, first + step)
        part = (bits[first * block : last * block] & np.uint16(0x7FFF)).reshape(-1, block)
        out[first:last] = bf16_to_f32(np.maximum.reduce(np.ascontiguousarray(part.T), axis=0))


def e4m3(values: np.ndarray, out: np.ndarray) -> None:
    """As `loops._e4m3`."""
    with np.errstate(all="ignore"):
        out[:] = e4m3_codes(values)


def pack(
    pairs: np.ndarray, steps: np.ndarray, half: int, multiply: bool, signed_zero: bool,
    packed: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    """As `loops._pack`."""
    with np.errstate(all="ignore"):
        for first in range(begin, end, width := max(1, _CHUNK // (2 * half))):
            last = min(end, first + width)
            values = bf16_to_f32(pairs[first * half : last * half].view(np.uint16))
            each = np.repeat(steps[first:last], 2 * half)
            values = values * each if multiply else values / each
            codes = e2m1_codes(values)
            if not signed_zero:
                codes[(codes & np.uint8(0x0F)) == 0x08] &= np.uint8(0xF0)
                codes[(codes & np.uint8(0xF0)) == 0x80] &= np.uint8(0x0F)
            packed[first * half : last * half] = codes


def errors(pairs: np.ndarray, packed: np.ndarray, steps: np.ndarray, half: int, out: np.ndarray) -> None:
    """As `loops._errors`: each sum begins with the block's first weight, all blocks side by side."""
    with np.errstate(all="ignore"):
        for first in range(0, steps.size, width := max(1, _CHUNK // (2 * half))):
            last = min(steps.size, first + width)
            values = bf16_to_f32(pairs[first * half : last * half].view(np.uint16)).reshape(-1, 2 * half)
            squares = values - _values(packed[first * half : last * half], steps[first:last], half)
            squares *= squares
            total = np.zeros(last - first, np.float32)
            for column in np.ascontiguousarray(squares.T):
                total += column
            out[first:last] = total


def unpack(packed: np.ndarray, steps: np.ndarray, half: int, values: np.ndarray) -> None:
    """As `loops._unpack`."""
    with np.errstate(all="ignore"):
        for first in range(0, steps.size, width := max(1, _CHUNK // (2 * half))):
            last = min(steps.size, first + width)
            part = _values(packed[first * half : last * half], steps[first:last], half)
            values[2 * first * half : 2 * last * half] = part.reshape(-1)


def _values(packed: np.ndarray, steps: np.ndarray, half: int) -> np.ndarray:
    """value(code) · step: float32 [blocks, 2 · half]."""
    values: np.ndarray = E2M1_PAIRS.take(packed, axis=0).reshape(-1, 2 * half)
    return values * steps[:, None]
