"""FP8 sources with block scales: their weights in BF16 and float32, and to NVFP4 without those arrays."""

import numpy as np
from numpy import float32 as F32
from numpy import uint32 as U32

from proofcard.nvfp4 import plain
from proofcard.nvfp4.bits import BF16_INF, BLOCK, E4M3_VALUES, FP8_BLOCK, f32_to_bf16
from proofcard.nvfp4.checks import bf16_scalar, blocks_of, expect_matrix, expect_scale_2, refuse
from proofcard.nvfp4.compiled import (
    GRAIN,
    float32,
    int64,
    kernel,
    readable,
    spread,
    uint8,
    uint16,
    void,
)
from proofcard.nvfp4.packing import bf16_bits, e4m3_value, quantize_blocks, quantize_blocks_by


def amax_fp8(
    weight: np.ndarray, scale_inv: np.ndarray, *, block: tuple[int, int] = FP8_BLOCK, threads: int = 1
) -> np.float32:
    """`amax(fp8_block_to_bf16(weight, scale_inv))` without the BF16 array.

    Decoding, scaling and rounding keep order within a block, so its largest code decides.
    """
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    codes = np.empty(scale_inv.shape, np.uint8)
    grain = max(1, GRAIN // (block[0] * weight.shape[1]))
    spread(lambda i, j: _largest_fp8(weight, *block, codes, i, j), len(codes), grain, threads)
    with np.errstate(over="ignore", invalid="ignore"):
        largest = f32_to_bf16(E4M3_VALUES[codes] * np.abs(scale_inv)).max()
    if largest >= BF16_INF:
        refuse(fp8_block_to_bf16(weight, scale_inv, block=block, threads=threads))
    return bf16_scalar(largest)


def fp8_block_to_bf16(
    weight: np.ndarray, scale_inv: np.ndarray, *, block: tuple[int, int] = FP8_BLOCK, threads: int = 1
) -> np.ndarray:
    """The one rule for FP8 sources: bf16(float32(w[r, c]) · scale_inv[r // block[0], c // block[1]]).

    `weight` uint8 E4M3FN [rows, cols], `scale_inv` float32 [⌈rows/block[0]⌉, ⌈cols/block[1]⌉]; the last
    blocks may be cut short. Rounds to nearest even. Returns uint16 [rows, cols]; NaN stays NaN.
    """
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    bits = np.empty(weight.shape, np.uint16)

    def widen(begin: int, end: int) -> None:
        _widen_fp8_rows(weight, scale_inv, *block, bits[begin:end], begin, end)

    spread(widen, len(weight), max(1, GRAIN // weight.shape[1]), threads)
    return bits


def fp8_block_to_f32(
    weight: np.ndarray, scale_inv: np.ndarray, *, block: tuple[int, int] = FP8_BLOCK
) -> np.ndarray:
    """The same product before it is rounded: float32 [rows, cols]. NaN stays NaN."""
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    values = np.empty(weight.shape, np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for strip, factors in enumerate(scale_inv):
            rows = slice(strip * block[0], (strip + 1) * block[0])
            factor = np.repeat(factors, block[1])[: weight.shape[1]]
            np.multiply(E4M3_VALUES[weight[rows]], factor, out=values[rows])
    return values


def block_amaxes_fp8(
    weight: np.ndarray, scale_inv: np.ndarray, *, block: tuple[int, int] = FP8_BLOCK, threads: int = 1
) -> np.ndarray:
    """max |fp8_block_to_f32(weight, scale_inv)| over each 16 neighbours along a row, without that array.

    Returns float32 [rows, cols/16].
    """
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    rows, cols = blocks_of(weight)
    amaxes = np.empty((rows, cols // BLOCK), np.float32)

    def find(begin: int, end: int) -> None:
        _block_amaxes_fp8_rows(weight, scale_inv, *block, amaxes, begin, end)

    spread(find, rows, max(1, GRAIN // cols), threads)
    return amaxes


def quantize_fp8(
    weight: np.ndarray,
    scale_inv: np.ndarray,
    scale_2: float | np.floating,
    *,
    block: tuple[int, int] = FP8_BLOCK,
    unrounded_scales: bool = False,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """`quantize(fp8_block_to_bf16(weight, scale_inv), scale_2)` with a few BF16 rows in memory at a time.

    `unrounded_scales` takes the block scales from `fp8_block_to_f32`, the codes still from BF16: so does
    ModelOpt 0.43.0 with a model that stays in FP8 (`_export_quantized_weight`: the scales are those of the
    unpacked weight, the codes those of `weight.to(dtype)`).
    """
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    rows, cols = blocks_of(weight)
    factor = expect_scale_2(scale_2)
    packed, scale = np.empty((rows, cols // 2), np.uint8), np.empty((rows, cols // BLOCK), np.uint8)
    step = max(1, GRAIN // cols)
    amaxes = block_amaxes_fp8(weight, scale_inv, block=block, threads=threads) if unrounded_scales else None

    def pack(begin: int, end: int) -> int:
        largest = 0
        scratch = np.empty((min(step, end - begin), cols), np.uint16)
        pairs = scratch.reshape(-1).view(np.uint32)
        for start in range(begin, end, step):
            stop = min(end, start + step)
            _widen_fp8_rows(weight, scale_inv, *block, scratch, start, stop)
            out, out_scale = packed[start:stop].reshape(-1), scale[start:stop].reshape(-1)
            if amaxes is None:
                met = quantize_blocks(pairs, factor, out, out_scale, 0, out_scale.size)
            else:
                own = amaxes[start:stop].reshape(-1)
                met = quantize_blocks_by(pairs, own, factor, out, out_scale, 0, out_scale.size)
            largest = max(largest, int(met))
        return largest

    if max(spread(pack, rows, step, threads)) >= BF16_INF:
        refuse(fp8_block_to_bf16(weight, scale_inv, block=block, threads=threads))
    return packed, scale


@kernel(
    void(readable(uint8, 2), readable(float32, 2), int64, int64, uint16[:, ::1], int64, int64),
    plain.widen_fp8_rows,
)
def _widen_fp8_rows(
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


@kernel(
    void(readable(uint8, 2), readable(float32, 2), int64, int64, float32[:, ::1], int64, int64),
    plain.block_amaxes_fp8_rows,
)
def _block_amaxes_fp8_rows(
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


@kernel(void(readable(uint8, 2), int64, int64, uint8[:, ::1], int64, int64), plain.largest_fp8)
def _largest_fp8(
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


def _expect_fp8(
    weight: np.ndarray, scale_inv: np.ndarray, block: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    expect_matrix(weight, "weight", np.uint8)
    expect_matrix(scale_inv, "scale_inv", np.float32)
    if min(block) < 1:
        raise ValueError(f"block is {block}; both sides must be at least 1")
    wanted = tuple(-(-size // side) for size, side in zip(weight.shape, block, strict=True))
    if scale_inv.shape != wanted:
        raise ValueError(
            f"scale_inv has shape {scale_inv.shape}; {weight.shape} in blocks of {block} needs {wanted}"
        )
    return np.ascontiguousarray(weight), np.ascontiguousarray(scale_inv)
