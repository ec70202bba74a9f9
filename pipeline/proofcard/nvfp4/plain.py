"""The loops of `packing`, `fp8` and `unpacking` once more in numpy, for installations without numba.

Each takes the arguments of its compiled namesake and writes the same bytes: the same float32 operations on
the same numbers, an array at a time. A chunk stays in a second-level cache and numpy holds no GIL in it,
so threads help here too. Steps are chosen for what numpy does with vector instructions: whole arrays without
broadcasting, a maximum along columns, shifts of eight codes at once.
"""

import numpy as np

from proofcard.nvfp4.bits import BLOCK, E4M3_VALUES, bf16_to_f32, f32_to_bf16

_CHUNK = 1 << 16  # weights at a time
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
E2M1_PAIRS = np.stack([np.tile(_E2M1, 16), np.repeat(_E2M1, 16)], axis=1)  # by byte: even column, odd column


def quantize_blocks(
    pairs: np.ndarray, scale_2: np.float32, packed: np.ndarray, scale: np.ndarray, begin: int, end: int
) -> int:
    """As `packing.quantize_blocks`."""
    return _quantize(pairs, None, scale_2, packed, scale, begin, end)


def quantize_blocks_by(
    pairs: np.ndarray,
    amaxes: np.ndarray,
    scale_2: np.float32,
    packed: np.ndarray,
    scale: np.ndarray,
    begin: int,
    end: int,
) -> int:
    """As `packing.quantize_blocks_by`."""
    return _quantize(pairs, amaxes, scale_2, packed, scale, begin, end)


def largest_bf16(bits: np.ndarray, begin: int, end: int) -> int:
    """As `packing._largest_bf16`."""
    return max(
        int((bits[start : min(end, start + _CHUNK)] & np.uint16(0x7FFF)).max())
        for start in range(begin, end, _CHUNK)
    )


def widen_fp8_rows(
    weight: np.ndarray,
    scale_inv: np.ndarray,
    block_rows: int,
    block_cols: int,
    bits: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """As `fp8._widen_fp8_rows`."""
    for first, last, factors in _strips(weight, scale_inv, block_rows, block_cols, begin, end):
        values = E4M3_VALUES.take(weight[first:last])
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values *= factors
        bits[first - begin : last - begin] = _bf16(values)


def block_amaxes_fp8_rows(
    weight: np.ndarray,
    scale_inv: np.ndarray,
    block_rows: int,
    block_cols: int,
    amaxes: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """As `fp8._block_amaxes_fp8_rows`; a NaN, which no caller lets through, is one here too."""
    for first, last, factors in _strips(weight, scale_inv, block_rows, block_cols, begin, end):
        values = E4M3_VALUES.take(weight[first:last] & np.uint8(0x7F))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values *= np.abs(factors)
        amaxes[first:last] = _largest_of_blocks(values.reshape(-1, BLOCK)).reshape(last - first, -1)


def largest_fp8(
    weight: np.ndarray, block_rows: int, block_cols: int, largest: np.ndarray, begin: int, end: int
) -> None:
    """As `fp8._largest_fp8`."""
    starts = np.arange(0, weight.shape[1], block_cols)
    for strip in range(begin, end):
        part = weight[strip * block_rows : (strip + 1) * block_rows] & np.uint8(0x7F)
        largest[strip] = np.maximum.reduceat(part.max(axis=0), starts)


def dequantize_blocks(
    packed: np.ndarray, scale: np.ndarray, scale_2: np.float32, pairs: np.ndarray, begin: int, end: int
) -> None:
    """As `unpacking._dequantize_blocks`."""
    out = pairs.view(np.uint16).reshape(-1, BLOCK)
    size = _CHUNK // BLOCK
    for start in range(begin, end, size):
        stop = min(end, start + size)
        values = E2M1_PAIRS.take(packed[8 * start : 8 * stop], axis=0).reshape(-1, BLOCK)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values *= np.repeat(E4M3_VALUES.take(scale[start:stop]) * scale_2, BLOCK).reshape(values.shape)
        out[start:stop] = _bf16(values)


def _quantize(
    pairs: np.ndarray,
    amaxes: np.ndarray | None,
    scale_2: np.float32,
    packed: np.ndarray,
    scale: np.ndarray,
    begin: int,
    end: int,
) -> int:
    """Returns the largest BF16 magnitude met, as bits."""
    unit = np.float32(6) * np.float32(scale_2)
    largest, size = 0, _CHUNK // BLOCK
    with np.errstate(all="ignore"):
        for start in range(begin, end, size):
            stop = min(end, start + size)
            bits = pairs[8 * start : 8 * stop].view(np.uint16).reshape(-1, BLOCK)
            met = _largest_of_blocks(bits & np.uint16(0x7FFF))
            largest = max(largest, int(met.max()))
            wanted = (bf16_to_f32(met) if amaxes is None else amaxes[start:stop]) / unit
            wanted[wanted == 0] = 1
            codes = e4m3_codes(wanted)
            scale[start:stop] = codes
            values = bf16_to_f32(bits.reshape(-1))
            values /= np.repeat(E4M3_VALUES.take(codes) * np.float32(scale_2), BLOCK)
            packed[8 * start : 8 * stop] = e2m1_codes(values)
    return largest


def e4m3_codes(values: np.ndarray) -> np.ndarray:
    """Nearest E4M3 code of values ≥ 0, ties to even; above 448 saturates. As `packing.e4m3_code`."""
    values = np.minimum(values, np.float32(448))
    bits = values.view(np.uint32)
    if int((bits & np.uint32(0x7FFFFFFF)).max()) > 0x7F800000:
        return f32_to_bf16(values)
    odd = (bits >> np.uint32(20)) & np.uint32(1)
    normal = ((bits + np.uint32(0x7FFFF) + odd) >> np.uint32(20)) - np.uint32(120 << 3)
    subnormal = (values + np.float32(2**14)).view(np.uint32) - np.uint32(0x46800000)
    return np.where(values < np.float32(2**-6), subnormal, normal).astype(np.uint8)


def e2m1_codes(values: np.ndarray) -> np.ndarray:
    """Two codes a byte, the even one low. As `packing.e2m1_code`, counted down from 7, which NaN keeps."""
    sizes = np.abs(values)
    below = np.less_equal(sizes, np.float32(0.25)).view(np.uint8)
    passed = np.empty(sizes.shape, np.bool_)
    for limit, compare in (
        (0.75, np.less), (1.25, np.less_equal), (1.75, np.less), (2.5, np.less_equal), (3.5, np.less),
        (5.0, np.less_equal),
    ):  # fmt: skip
        compare(sizes, np.float32(limit), out=passed)
        below += passed.view(np.uint8)
    codes = np.subtract(np.uint8(7), below, out=below)
    np.less(values, np.float32(0), out=passed)
    codes |= (passed.view(np.uint64) << np.uint64(3)).view(np.uint8)  # each byte is 0 or 1
    both = codes.view("<u2")
    return (both | (both >> np.uint16(4))).astype(np.uint8)


def _largest_of_blocks(values: np.ndarray) -> np.ndarray:
    """The largest of each row of 16."""
    return np.maximum.reduce(np.ascontiguousarray(values.T), axis=0)


def _bf16(values: np.ndarray) -> np.ndarray:
    """float32 to BF16 bits, to nearest even; what is NaN by the long way."""
    bits = values.view(np.uint32)
    if int((bits & np.uint32(0x7FFFFFFF)).max()) > 0x7F800000:
        return f32_to_bf16(values)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    odd += bits
    odd += np.uint32(0x7FFF)
    odd >>= np.uint32(16)
    return odd.astype(np.uint16)


def _strips(
    weight: np.ndarray, scale_inv: np.ndarray, block_rows: int, block_cols: int, begin: int, end: int
) -> list[tuple[int, int, np.ndarray]]:
    """Rows `begin` to `end` in pieces within one strip of source blocks, with the factor of each column."""
    height = max(1, _CHUNK // weight.shape[1])
    pieces, first, factors = [], begin, np.empty(0, np.float32)
    strip = -1
    while first < end:
        if first // block_rows != strip:
            strip = first // block_rows
            factors = np.repeat(scale_inv[strip], block_cols)[: weight.shape[1]]
        last = min(end, first + height, (strip + 1) * block_rows)
        pieces.append((first, last, factors))
        first = last
    return pieces
