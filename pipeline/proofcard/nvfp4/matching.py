"""Whether codes and block scales follow from a weight: `quantize` and the comparison in one loop.

Nothing is written: expected codes are held to the stored ones as they come. The formula is that of `packing`
and `fp8`, and its steps are their functions but for the last, from a quotient to its E2M1 code: there
`nearest_e2m1` rounds with one addition where `packing.e2m1_code` compares seven times, to the same code for
every float32.

This decides no byte of any checkpoint: only `verify` asks, and what does not follow by it is compared once
more with what `packing` and `fp8` make.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import float32 as F32
from numpy import uint32 as U32

from proofcard.nvfp4 import plain
from proofcard.nvfp4.bits import BF16_INF, BLOCK, FP8_BLOCK
from proofcard.nvfp4.checks import bf16_scalar, blocks_of, expect, expect_matrix, expect_scale_2
from proofcard.nvfp4.compiled import float32, inline, int64, kernel, readable, uint8, uint32
from proofcard.nvfp4.fp8 import _expect_fp8, block_amaxes_fp8
from proofcard.nvfp4.packing import (  # private names stay so: another name would change every key
    _amax_blocks,
    _scale_blocks,
    bf16_bits,
    bf16_value,
    e4m3_value,
)

_DIFFERS, _ZERO, _FLAGS = 1, 2, 3  # of an outcome, which has max |W| as BF16 bits in its upper half
_CHUNK = 256  # blocks; 18 KB of working set in the first-level cache, and few turns of the outer loop
_OWN = np.empty(0, F32)  # block amaxes of the BF16 weight, computed on the way


class Match(NamedTuple):
    """Whether every byte follows. Only then, whether a block scale is zero, and max |W| in BF16."""

    follows: bool
    zero: bool = False
    amax: np.float32 = F32(np.nan)


def match(weight: np.ndarray, scale_2: float | np.floating, packed: np.ndarray, scale: np.ndarray) -> Match:
    """Whether `quantize(weight, scale_2)` gives `packed` and `scale`; never for a weight that is not finite.

    uint16 [rows, cols], uint8 [rows, cols/2] and uint8 [rows, cols/16]. Raises ValueError as `quantize`, and
    for stored arrays of other shapes.
    """
    expect_matrix(weight, "weight", np.uint16)
    factor, stored = expect_scale_2(scale_2), _expect_stored(weight, packed, scale)
    pairs = np.ascontiguousarray(weight).reshape(-1).view(U32)
    return _match(_match_blocks(pairs, factor, *stored, 0, scale.size))


def match_fp8(
    weight: np.ndarray,
    scale_inv: np.ndarray,
    scale_2: float | np.floating,
    packed: np.ndarray,
    scale: np.ndarray,
    *,
    block: tuple[int, int] = FP8_BLOCK,
    unrounded_scales: bool = False,
) -> Match:
    """`match` for what `quantize_fp8` gives, whose arguments the others are."""
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    factor, stored = expect_scale_2(scale_2), _expect_stored(weight, packed, scale)
    amaxes = _OWN
    if unrounded_scales:
        amaxes = block_amaxes_fp8(weight, scale_inv, block=block).reshape(-1)
    return _match(_match_fp8_rows(weight, scale_inv, *block, amaxes, factor, *stored, 0, len(weight)))


def _expect_stored(
    weight: np.ndarray, packed: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = blocks_of(weight)
    for array, name, width in ((packed, "packed", cols // 2), (scale, "scale", cols // BLOCK)):
        expect(array, name, np.uint8)
        if array.shape != (rows, width):
            raise ValueError(f"{name} has shape {array.shape}; the weight's is {(rows, width)}")
    return np.ascontiguousarray(packed).reshape(-1), np.ascontiguousarray(scale).reshape(-1)


def _match(outcome: int) -> Match:
    flags, largest = int(outcome) & _FLAGS, int(outcome) >> 16
    if flags & _DIFFERS or largest >= BF16_INF:
        return Match(False)
    return Match(True, bool(flags & _ZERO), bf16_scalar(largest))


# --- the loops --------------------------------------------------------------------------------


def _plain_blocks(
    pairs: np.ndarray, scale_2: np.float32, packed: np.ndarray, scale: np.ndarray, begin: int, end: int
) -> int:
    """As `_match_blocks`, in numpy."""
    return _plain(pairs[8 * begin : 8 * end], _OWN, scale_2, packed[8 * begin : 8 * end], scale[begin:end])


def _plain_fp8_rows(
    weight: np.ndarray, scale_inv: np.ndarray, block_rows: int, block_cols: int, amaxes: np.ndarray,
    scale_2: np.float32, packed: np.ndarray, scale: np.ndarray, begin: int, end: int,
) -> int:  # fmt: skip
    """As `_match_fp8_rows`, in numpy."""
    bits = np.empty((end - begin, weight.shape[1]), np.uint16)
    plain.widen_fp8_rows(weight, scale_inv, block_rows, block_cols, bits, begin, end)
    return _plain(bits.reshape(-1).view(U32), amaxes, scale_2, packed, scale)


def _plain(
    pairs: np.ndarray, amaxes: np.ndarray, scale_2: np.float32, packed: np.ndarray, scale: np.ndarray
) -> int:
    largest = plain.largest_bf16(pairs.view(np.uint16), 0, 2 * pairs.size)
    if largest >= BF16_INF:
        return _DIFFERS
    wanted, wanted_scale = np.empty_like(packed), np.empty_like(scale)
    into: Any = (scale_2, wanted, wanted_scale, 0, scale.size)
    if amaxes.size:
        plain.quantize_blocks_by(pairs, amaxes, *into)
    else:
        plain.quantize_blocks(pairs, *into)
    same = np.array_equal(wanted, packed) and np.array_equal(wanted_scale, scale)
    return largest << 16 | (0 if same else _DIFFERS) | (0 if wanted_scale.all() else _ZERO)


@kernel(uint32(readable(uint32), float32, readable(uint8), readable(uint8), int64, int64), _plain_blocks)
def _match_blocks(
    pairs: np.ndarray, scale_2: F32, packed: np.ndarray, scale: np.ndarray, begin: int, end: int
) -> U32:
    """Outcome of blocks `begin` to `end`, up to the first chunk that differs."""
    amaxes, divisor, wanted = np.empty(_CHUNK, F32), np.empty(8 * _CHUNK, F32), np.empty(_CHUNK, np.uint8)
    codes = np.empty(8 * _CHUNK, np.uint8)
    largest, flags = U32(0), U32(0)
    for start in range(begin, end, _CHUNK):
        stop = min(end, start + _CHUNK)
        part, amaxes_here, size = pairs[8 * start : 8 * stop], amaxes[: stop - start], stop - start
        largest = max(largest, _amax_blocks(part, amaxes_here))
        _scale_blocks(amaxes_here, scale_2, wanted[:size], divisor)
        flags |= _compare(
            part, divisor, wanted[:size], codes, packed[8 * start : 8 * stop], scale[start:stop]
        )
        if flags & U32(_DIFFERS):
            break
    return U32(largest << U32(16)) | flags


@kernel(
    uint32(
        readable(uint8, 2), readable(float32, 2), int64, int64, readable(float32), float32, readable(uint8),
        readable(uint8), int64, int64,
    ),
    _plain_fp8_rows,
)  # fmt: skip
def _match_fp8_rows(
    weight: np.ndarray, scale_inv: np.ndarray, block_rows: int, block_cols: int, amaxes: np.ndarray,
    scale_2: F32, packed: np.ndarray, scale: np.ndarray, begin: int, end: int,
) -> U32:  # fmt: skip
    """As `_match_blocks`, of rows; `amaxes` of all blocks or, if there are none, those of the BF16 weight."""
    cols = weight.shape[1]
    blocks = cols // 16
    bits = np.empty(cols, np.uint16)
    pairs = bits.view(U32)
    own, divisor, wanted = np.empty(_CHUNK, F32), np.empty(8 * _CHUNK, F32), np.empty(_CHUNK, np.uint8)
    codes = np.empty(8 * _CHUNK, np.uint8)
    largest, flags = U32(0), U32(0)
    for row in range(begin, end):
        for j in range(scale_inv.shape[1]):
            first, last = j * block_cols, min((j + 1) * block_cols, cols)
            source, out, factor = weight[row, first:last], bits[first:last], scale_inv[row // block_rows, j]
            for i in range(source.size):  # not a function of its own: it would not be vectorised
                out[i] = bf16_bits(F32(e4m3_value(U32(source[i])) * factor))
        for block in range(0, blocks, _CHUNK):
            size = min(_CHUNK, blocks - block)
            start = row * blocks + block
            part, own_here = pairs[8 * block : 8 * (block + size)], own[:size]
            largest = max(largest, _amax_blocks(part, own_here))
            if amaxes.size > 0:
                for i in range(size):
                    own_here[i] = amaxes[start + i]
            _scale_blocks(own_here, scale_2, wanted[:size], divisor)
            flags |= _compare(
                part,
                divisor,
                wanted[:size],
                codes,
                packed[8 * start : 8 * (start + size)],
                scale[start : start + size],
            )
        if flags & U32(_DIFFERS):
            break
    return U32(largest << U32(16)) | flags


@inline
def _compare(
    pairs: np.ndarray,
    divisor: np.ndarray,
    wanted: np.ndarray,
    codes: np.ndarray,
    packed: np.ndarray,
    scale: np.ndarray,
) -> U32:
    """Flags of a chunk: its block scales are `wanted`, its codes those of pairs over divisors."""
    for i in range(packed.size):
        even = F32(bf16_value(pairs[i]) / divisor[i])
        odd = F32(U32(pairs[i] & U32(0xFFFF0000)).view(F32) / divisor[i])
        codes[i] = nearest_e2m1(even) | (nearest_e2m1(odd) << U32(4))
    different, zero = np.uint8(0), U32(0)
    for i in range(packed.size):  # a loop of its own: bytes go many at a time
        different |= np.uint8(codes[i] ^ packed[i])
    for block in range(scale.size):
        different |= np.uint8(wanted[block] ^ scale[block])
        zero |= U32(wanted[block] == 0)
    return U32(U32(different != 0) * U32(_DIFFERS) | zero * U32(_ZERO))


@inline
def nearest_e2m1(y: F32) -> U32:
    """`packing.e2m1_code`, rounded by an addition.

    E2M1 counts in steps of 0.5 below 2, of 1 below 4 and of 2 up to 6: half the power of two below the
    magnitude, taken as 1 at least. A float32 of 2²² times that power counts in the same steps, so that adding
    it rounds, ties to even, and leaves the number of steps in the last bits. Each step width that
    is passed adds two codes. What is larger than 6 counts as 6, and so does NaN, whose bits are larger.
    """
    bits = F32(y).view(U32)
    size = min(U32(bits & U32(0x7FFFFFFF)), U32(0x40C00000))
    power = U32(max(size, U32(0x3F800000)) & U32(0x7F800000))
    counting = U32(power + U32(22 << 23))
    steps = U32(F32(U32(size).view(F32) + U32(counting).view(F32)).view(U32) - counting)
    return U32(U32(steps + U32(power >> U32(22)) - U32(254)) | U32(U32(y < F32(0)) << U32(3)))
