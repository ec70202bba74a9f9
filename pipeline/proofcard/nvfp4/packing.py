"""BF16 weights to NVFP4: codes and block scales, the formula as it runs.

The loops are laid out for the vectoriser, which wants long loops with one element per turn: hence two BF16 in
one uint32 (even element low, as memory has them) and divisors spread out to one per pair before the packing
loop. The only additions are exact or on integers.
"""

import numpy as np
from numpy import float32 as F32
from numpy import uint32 as U32

from proofcard.nvfp4 import plain
from proofcard.nvfp4.bits import BF16_INF, BF16_NAN, BLOCK
from proofcard.nvfp4.checks import (
    bf16_scalar,
    blocks_of,
    expect,
    expect_amaxes,
    expect_matrix,
    expect_scale_2,
    refuse,
)
from proofcard.nvfp4.compiled import (
    GRAIN,
    float32,
    inline,
    int64,
    kernel,
    readable,
    spread,
    uint8,
    uint16,
    uint32,
)

CHUNK = 64  # blocks; the working set of a chunk stays in the first-level cache


def amax(weight: np.ndarray, *, threads: int = 1) -> np.float32:
    """max |W| of BF16 bits (uint16, any shape). A NaN or infinity raises ValueError with its position."""
    expect(weight, "weight", np.uint16)
    flat = np.ascontiguousarray(weight).reshape(-1)
    found = spread(lambda i, j: _largest_bf16(flat, i, j), flat.size, GRAIN, threads)
    if max(found) >= BF16_INF:
        refuse(weight)
    return bf16_scalar(max(found))


def quantize(
    weight: np.ndarray,
    scale_2: float | np.floating,
    *,
    block_amaxes: np.ndarray | None = None,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """BF16 bits to packed FP4 and its block scales.

    uint16 [rows, cols] becomes uint8 [rows, cols/2] and, as E4M3FN, uint8 [rows, cols/16]. With
    m = max |W| over 16 neighbours along a row, all in float32:

        scale = E4M3(min(m / (6 · scale_2), 448)), where a quotient of 0 counts as 1
        code  = E2M1(W / (float32(scale) · scale_2)), ties to even, sign in bit 3
        byte  = code[odd] << 4 | code[even]

    The bytes of ModelOpt 0.43.0 (`NVFP4QTensor`), except that it writes NaN where 464 is passed: that
    takes a scale_2 smaller than the weight's own. m / (6 · scale_2) ≤ 2⁻¹⁰ gives scale 0, and then
    W / 0 gives ±6 and 0 / 0 gives +6, which all dequantize to zero.

    `block_amaxes`, float32 [rows, cols/16], stand in the place of m: those of the weight before it was
    rounded to BF16, from `block_amaxes_fp8`.
    """
    expect_matrix(weight, "weight", np.uint16)
    rows, cols = blocks_of(weight)
    factor = expect_scale_2(scale_2)
    if block_amaxes is not None:
        expect_amaxes(block_amaxes, (rows, cols // BLOCK))
    packed, scale = np.empty((rows, cols // 2), np.uint8), np.empty((rows, cols // BLOCK), np.uint8)
    pairs = np.ascontiguousarray(weight).reshape(-1).view(np.uint32)
    flat_packed, flat_scale = packed.reshape(-1), scale.reshape(-1)

    flat_amaxes = None if block_amaxes is None else np.ascontiguousarray(block_amaxes).reshape(-1)

    def pack(begin: int, end: int) -> int:
        if flat_amaxes is None:
            return int(quantize_blocks(pairs, factor, flat_packed, flat_scale, begin, end))
        return int(quantize_blocks_by(pairs, flat_amaxes, factor, flat_packed, flat_scale, begin, end))

    if max(spread(pack, scale.size, GRAIN // BLOCK, threads)) >= BF16_INF:
        refuse(weight)
    return packed, scale


# --- the loops --------------------------------------------------------------------------------


@kernel(uint32(readable(uint32), float32, uint8[::1], uint8[::1], int64, int64), plain.quantize_blocks)
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


@kernel(
    uint32(readable(uint32), readable(float32), float32, uint8[::1], uint8[::1], int64, int64),
    plain.quantize_blocks_by,
)
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


@inline
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


@inline
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


@inline
def _pack(pairs: np.ndarray, divisor: np.ndarray, packed: np.ndarray) -> None:
    for i in range(packed.size):
        even = F32(bf16_value(pairs[i]) / divisor[i])
        odd = F32(U32(pairs[i] & U32(0xFFFF0000)).view(F32) / divisor[i])
        packed[i] = e2m1_code(even) | (e2m1_code(odd) << U32(4))


@kernel(uint16(readable(uint16), int64, int64), plain.largest_bf16)
def _largest_bf16(bits: np.ndarray, begin: int, end: int) -> np.uint16:
    """Magnitudes of BF16 order as their bits do, NaN above infinity above the rest."""
    largest = np.uint16(0)
    part = bits[begin:end]
    for i in range(part.size):
        largest = max(largest, np.uint16(part[i] & np.uint16(0x7FFF)))
    return largest


# --- one number -------------------------------------------------------------------------------


@inline
def bf16_value(bits: U32) -> F32:
    """The value of BF16 bits in the low half; what is above them is shifted out."""
    return U32(bits << U32(16)).view(F32)


@inline
def bf16_bits(value: F32) -> U32:
    """To nearest, ties to even."""
    bits = F32(value).view(U32)
    rounded = U32(bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)
    return U32(BF16_NAN) if np.isnan(value) else rounded


@inline
def e4m3_value(code: U32) -> F32:
    """As `E4M3_VALUES`, by arithmetic: a table here would cost a gather for every weight."""
    magnitude = U32(code & U32(0x7F))
    normal = U32((magnitude << U32(20)) + U32(120 << 23))
    subnormal = F32(F32(magnitude) * F32(2**-9)).view(U32)
    bits = subnormal if magnitude < U32(8) else normal
    bits = U32(0x7FC00000) if magnitude == U32(0x7F) else bits
    return U32(bits | ((code & U32(0x80)) << U32(24))).view(F32)


@inline
def e4m3_code(value: F32) -> U32:
    """Nearest E4M3 code of a value ≥ 0, ties to even; above 448 saturates."""
    value = min(value, F32(448))
    bits = F32(value).view(U32)
    normal = U32((bits + U32(0x7FFFF) + ((bits >> U32(20)) & U32(1))) >> U32(20)) - U32(120 << 3)
    # In [2^14, 2^15) float32 counts in steps of 2^-9, the E4M3 subnormals' own: the sum rounds for us.
    subnormal = F32(value + F32(2**14)).view(U32) - U32(0x46800000)
    return subnormal if value < F32(2**-6) else normal


@inline
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
