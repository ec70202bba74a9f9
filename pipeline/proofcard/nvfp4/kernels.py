"""The NVFP4 loops, compiled. Use `proofcard.nvfp4`, which checks shapes and splits the work.

Each kernel handles items `begin` to `end` (blocks, rows, strips) and writes nothing else, so any split
over threads gives the same bytes; it holds no GIL. The loops are laid out for the vectoriser, which wants
long loops with one element per turn: hence two BF16 in one uint32 (even element low, as memory has them)
and divisors spread out to one per pair before the packing loop.

`fastmath` stays off, and the only additions are exact or on integers: nothing to contract or reorder.
Compiled in memory at first use and never cached on disk: numba tells a stale cache by time and size
alone, and two builds with squashed times can agree in both.
"""

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import float32, int64, types, uint8, uint16, uint32, void
from numpy import float32 as F32
from numpy import uint32 as U32

from proofcard.nvfp4.bits import BF16_NAN, E4M3_VALUES

CHUNK = 64  # blocks; the working set of a chunk stays in the first-level cache

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "nogil": True}
_inline: Callable[..., Any] = numba.njit(**_OPTIONS)
_compiling = threading.Lock()


def _in(dtype: types.Type, ndim: int = 1) -> types.Array:
    """An input may be read-only and unaligned: it is, when it comes from a mapped file."""
    return types.Array(dtype, ndim, "C", readonly=True, aligned=False)


def _kernel(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for this signature alone, when first called."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = numba.njit(**_OPTIONS)(function)
        ready = False

        def call(*args: Any) -> Any:
            nonlocal ready
            if not ready:
                with _compiling:
                    if not ready:
                        dispatcher.compile(signature)
                        dispatcher.disable_compile()  # a writable input must not bring a second compilation
                        ready = True
            return dispatcher(*args)

        return call

    return wrap


# --- one number -------------------------------------------------------------------------------------


@_inline
def bf16_value(bits: U32) -> F32:
    """The value of BF16 bits in the low half; what is above them is shifted out."""
    return U32(bits << U32(16)).view(F32)


@_inline
def bf16_bits(value: F32) -> U32:
    """To nearest, ties to even."""
    bits = F32(value).view(U32)
    rounded = U32(bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)
    return U32(BF16_NAN) if np.isnan(value) else rounded


@_inline
def e4m3_value(code: U32) -> F32:
    """As `E4M3_VALUES`, by arithmetic: a table here would cost a gather for every weight."""
    magnitude = U32(code & U32(0x7F))
    normal = U32((magnitude << U32(20)) + U32(120 << 23))
    subnormal = F32(F32(magnitude) * F32(2**-9)).view(U32)
    bits = subnormal if magnitude < U32(8) else normal
    bits = U32(0x7FC00000) if magnitude == U32(0x7F) else bits
    return U32(bits | ((code & U32(0x80)) << U32(24))).view(F32)


@_inline
def e4m3_code(value: F32) -> U32:
    """Nearest E4M3 code of a value ≥ 0, ties to even; above 448 saturates."""
    value = min(value, F32(448))
    bits = F32(value).view(U32)
    normal = U32((bits + U32(0x7FFFF) + ((bits >> U32(20)) & U32(1))) >> U32(20)) - U32(120 << 3)
    # In [2^14, 2^15) float32 counts in steps of 2^-9, the E4M3 subnormals' own: the sum rounds for us.
    subnormal = F32(value + F32(2**14)).view(U32) - U32(0x46800000)
    return subnormal if value < F32(2**-6) else normal


@_inline
def e2m1_code(y: F32) -> U32:
    """Nearest of 0 .5 1 1.5 2 3 4 6, ties to the even code, sign in bit 3.

    Comparisons are negated so that NaN passes all seven and gives 7, as a sorted search does; it comes
    from 0/0 in a block whose scale underflowed. A negative that rounds to zero keeps its sign, −0.0 has none.
    """
    size: F32 = abs(y)
    code = U32(not size <= F32(0.25))
    code += U32(not size < F32(0.75))
    code += U32(not size <= F32(1.25))
    code += U32(not size < F32(1.75))
    code += U32(not size <= F32(2.5))
    code += U32(not size < F32(3.5))
    code += U32(not size <= F32(5.0))
    return code | (U32(y < F32(0)) << U32(3))


@_inline
def e2m1_value(code: U32) -> F32:
    """Twice the size is one hex digit of the constant. Code 8 is +0.0: ModelOpt's table has 0 there."""
    twice = np.int32((U32(0xC8643210) >> (U32(4) * (code & U32(7)))) & U32(0xF))
    return F32(-twice if code >= U32(8) else twice) * F32(0.5)


# --- a chunk of blocks ------------------------------------------------------------------------------


@_inline
def _amax_blocks(pairs: np.ndarray, amaxes: np.ndarray) -> U32:
    """Fill each block's largest magnitude; return the largest of all, as BF16 bits."""
    largest = U32(0)
    for block in range(amaxes.size):
        amax = U32(0)
        for i in range(8):
            pair = pairs[np.uint64(8 * block + i)]
            amax = max(amax, max(pair & U32(0x7FFF), (pair >> U32(16)) & U32(0x7FFF)))
        largest = max(largest, amax)
        amaxes[block] = bf16_value(amax)
    return largest


@_inline
def _scale_blocks(amaxes: np.ndarray, scale_2: F32, scale: np.ndarray, divisor: np.ndarray) -> None:
    """Fill the block scales and the divisor of each pair."""
    unit = F32(F32(6) * scale_2)
    for block in range(scale.size):
        wanted = F32(amaxes[block] / unit)
        if wanted == F32(0):
            wanted = F32(1)
        code = e4m3_code(wanted)
        scale[block] = code
        step = F32(e4m3_value(code) * scale_2)
        for i in range(8):
            divisor[np.uint64(8 * block + i)] = step


@_inline
def _pack(pairs: np.ndarray, divisor: np.ndarray, packed: np.ndarray) -> None:
    for i in range(packed.size):
        even = F32(bf16_value(pairs[i]) / divisor[i])
        odd = F32(U32(pairs[i] & U32(0xFFFF0000)).view(F32) / divisor[i])
        packed[i] = e2m1_code(even) | (e2m1_code(odd) << U32(4))


# --- kernels ----------------------------------------------------------------------------------------


@_kernel(uint32(_in(uint32), float32, uint8[::1], uint8[::1], int64, int64))
def quantize_blocks(
    pairs: np.ndarray, scale_2: F32, packed: np.ndarray, scale: np.ndarray, begin: int, end: int
) -> U32:
    """Returns the largest BF16 magnitude met, as bits: not finite means that the output is void."""
    amaxes, divisor = np.empty(CHUNK, F32), np.empty(8 * CHUNK, F32)
    largest = U32(0)
    for start in range(begin, end, CHUNK):
        stop = min(end, start + CHUNK)
        part, own = pairs[8 * start : 8 * stop], amaxes[: stop - start]
        largest = max(largest, _amax_blocks(part, own))
        _scale_blocks(own, scale_2, scale[start:stop], divisor)
        _pack(part, divisor, packed[8 * start : 8 * stop])
    return largest


@_kernel(uint32(_in(uint32), _in(float32), float32, uint8[::1], uint8[::1], int64, int64))
def quantize_blocks_by(
    pairs: np.ndarray,
    amaxes: np.ndarray,
    scale_2: F32,
    packed: np.ndarray,
    scale: np.ndarray,
    begin: int,
    end: int,
) -> U32:
    """`quantize_blocks` with the amax of each block given."""
    met, divisor = np.empty(CHUNK, F32), np.empty(8 * CHUNK, F32)
    largest = U32(0)
    for start in range(begin, end, CHUNK):
        stop = min(end, start + CHUNK)
        part = pairs[8 * start : 8 * stop]
        largest = max(largest, _amax_blocks(part, met[: stop - start]))
        _scale_blocks(amaxes[start:stop], scale_2, scale[start:stop], divisor)
        _pack(part, divisor, packed[8 * start : 8 * stop])
    return largest


@_kernel(void(_in(uint8), _in(uint8), float32, uint32[::1], int64, int64))
def dequantize_blocks(
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


@_kernel(void(_in(uint8, 2), _in(float32, 2), int64, int64, uint16[:, ::1], int64, int64))
def widen_fp8_rows(
    weight: np.ndarray,
    scale_inv: np.ndarray,
    block_rows: int,
    block_cols: int,
    bits: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """Row `begin` of `weight` becomes row 0 of `bits`, which may be as small as the range."""
    for row in range(begin, end):
        for j in range(scale_inv.shape[1]):
            start, stop = j * block_cols, min((j + 1) * block_cols, weight.shape[1])
            codes, out = weight[row, start:stop], bits[row - begin, start:stop]
            factor = scale_inv[row // block_rows, j]
            for c in range(codes.size):
                out[c] = bf16_bits(F32(e4m3_value(U32(codes[c])) * factor))


@_kernel(void(_in(uint8, 2), _in(float32, 2), int64, int64, float32[:, ::1], int64, int64))
def block_amaxes_fp8_rows(
    weight: np.ndarray,
    scale_inv: np.ndarray,
    block_rows: int,
    block_cols: int,
    amaxes: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """Scaling keeps order within a source block: of 16 neighbours in it the largest code decides."""
    for row in range(begin, end):
        out = amaxes[row]
        out[:] = F32(0)
        for j in range(scale_inv.shape[1]):
            at, stop = j * block_cols, min((j + 1) * block_cols, weight.shape[1])
            factor = F32(abs(scale_inv[row // block_rows, j]))
            while at < stop:
                block = at // 16
                until = min(16 * (block + 1), stop)
                code = np.uint8(0)
                for c in range(at, until):
                    code = max(code, np.uint8(weight[row, c] & np.uint8(0x7F)))
                out[block] = max(out[block], F32(e4m3_value(U32(code)) * factor))
                at = until


@_kernel(uint16(_in(uint16), int64, int64))
def largest_bf16(bits: np.ndarray, begin: int, end: int) -> np.uint16:
    """Magnitudes of BF16 order as their bits do, NaN above infinity above the rest."""
    largest = np.uint16(0)
    part = bits[begin:end]
    for i in range(part.size):
        largest = max(largest, np.uint16(part[i] & np.uint16(0x7FFF)))
    return largest


@_kernel(void(_in(uint8, 2), int64, int64, uint8[:, ::1], int64, int64))
def largest_fp8(
    weight: np.ndarray, block_rows: int, block_cols: int, largest: np.ndarray, begin: int, end: int
) -> None:
    """Largest code, sign apart, of each source block in strips `begin` to `end`."""
    rows, cols = weight.shape
    for strip in range(begin, end):
        for j in range(largest.shape[1]):
            start, stop = j * block_cols, min((j + 1) * block_cols, cols)
            code = np.uint8(0)
            for row in range(strip * block_rows, min((strip + 1) * block_rows, rows)):
                part = weight[row, start:stop]
                for c in range(part.size):
                    code = max(code, np.uint8(part[c] & np.uint8(0x7F)))
            largest[strip, j] = code
