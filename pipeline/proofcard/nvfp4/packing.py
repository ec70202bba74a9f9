"""Weights to NVFP4 and back: what `proofcard.nvfp4` exports, checks on top, compiled loops below."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from proofcard.nvfp4.bits import BF16_INF, E4M3_VALUES, bf16_to_f32, f32_to_bf16

BLOCK = 16  # weights that share one E4M3 scale
FP8_BLOCK = (128, 128)  # weights that share one float32 scale_inv in an FP8 source
_GRAIN = 1 << 17  # weights in the smallest piece of work; 256 KiB as BF16, inside a second-level cache


def amax(weight: np.ndarray, *, threads: int = 1) -> np.float32:
    """max |W| of BF16 bits (uint16, any shape). A NaN or infinity raises ValueError with its position."""
    _expect(weight, "weight", np.uint16)
    kernels = _kernels()
    flat = np.ascontiguousarray(weight).reshape(-1)
    found = _spread(lambda i, j: kernels.largest_bf16(flat, i, j), flat.size, _GRAIN, threads)
    if max(found) >= BF16_INF:
        _refuse(weight)
    return _value(max(found))


def amax_fp8(
    weight: np.ndarray, scale_inv: np.ndarray, *, block: tuple[int, int] = FP8_BLOCK, threads: int = 1
) -> np.float32:
    """`amax(fp8_block_to_bf16(weight, scale_inv))` without the BF16 array.

    Decoding, scaling and rounding keep order within a block, so its largest code decides.
    """
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    kernels = _kernels()
    codes = np.empty(scale_inv.shape, np.uint8)
    grain = max(1, _GRAIN // (block[0] * weight.shape[1]))
    _spread(lambda i, j: kernels.largest_fp8(weight, *block, codes, i, j), len(codes), grain, threads)
    with np.errstate(over="ignore", invalid="ignore"):
        largest = f32_to_bf16(E4M3_VALUES[codes] * np.abs(scale_inv)).max()
    if largest >= BF16_INF:
        _refuse(fp8_block_to_bf16(weight, scale_inv, block=block, threads=threads))
    return _value(largest)


def fp8_block_to_bf16(
    weight: np.ndarray, scale_inv: np.ndarray, *, block: tuple[int, int] = FP8_BLOCK, threads: int = 1
) -> np.ndarray:
    """The one rule for FP8 sources: bf16(float32(w[r, c]) · scale_inv[r // block[0], c // block[1]]).

    `weight` uint8 E4M3FN [rows, cols], `scale_inv` float32 [⌈rows/block[0]⌉, ⌈cols/block[1]⌉]; the last
    blocks may be cut short. Rounds to nearest even. Returns uint16 [rows, cols]; NaN stays NaN.
    """
    weight, scale_inv = _expect_fp8(weight, scale_inv, block)
    kernels = _kernels()
    bits = np.empty(weight.shape, np.uint16)

    def widen(begin: int, end: int) -> None:
        kernels.widen_fp8_rows(weight, scale_inv, *block, bits[begin:end], begin, end)

    _spread(widen, len(weight), max(1, _GRAIN // weight.shape[1]), threads)
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
    rows, cols = _blocks_of(weight)
    kernels = _kernels()
    amaxes = np.empty((rows, cols // BLOCK), np.float32)

    def find(begin: int, end: int) -> None:
        kernels.block_amaxes_fp8_rows(weight, scale_inv, *block, amaxes, begin, end)

    _spread(find, rows, max(1, _GRAIN // cols), threads)
    return amaxes


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
    _expect_matrix(weight, "weight", np.uint16)
    rows, cols = _blocks_of(weight)
    factor = _expect_scale_2(scale_2)
    if block_amaxes is not None:
        _expect_amaxes(block_amaxes, (rows, cols // BLOCK))
    kernels = _kernels()
    packed, scale = np.empty((rows, cols // 2), np.uint8), np.empty((rows, cols // BLOCK), np.uint8)
    pairs = np.ascontiguousarray(weight).reshape(-1).view(np.uint32)
    flat_packed, flat_scale = packed.reshape(-1), scale.reshape(-1)

    flat_amaxes = None if block_amaxes is None else np.ascontiguousarray(block_amaxes).reshape(-1)

    def pack(begin: int, end: int) -> int:
        if flat_amaxes is None:
            return int(kernels.quantize_blocks(pairs, factor, flat_packed, flat_scale, begin, end))
        return int(
            kernels.quantize_blocks_by(pairs, flat_amaxes, factor, flat_packed, flat_scale, begin, end)
        )

    if max(_spread(pack, scale.size, _GRAIN // BLOCK, threads)) >= BF16_INF:
        _refuse(weight)
    return packed, scale


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
    rows, cols = _blocks_of(weight)
    factor = _expect_scale_2(scale_2)
    kernels = _kernels()
    packed, scale = np.empty((rows, cols // 2), np.uint8), np.empty((rows, cols // BLOCK), np.uint8)
    step = max(1, _GRAIN // cols)
    amaxes = block_amaxes_fp8(weight, scale_inv, block=block, threads=threads) if unrounded_scales else None

    def pack(begin: int, end: int) -> int:
        largest = 0
        scratch = np.empty((min(step, end - begin), cols), np.uint16)
        pairs = scratch.reshape(-1).view(np.uint32)
        for start in range(begin, end, step):
            stop = min(end, start + step)
            kernels.widen_fp8_rows(weight, scale_inv, *block, scratch, start, stop)
            out, out_scale = packed[start:stop].reshape(-1), scale[start:stop].reshape(-1)
            if amaxes is None:
                met = kernels.quantize_blocks(pairs, factor, out, out_scale, 0, out_scale.size)
            else:
                own = amaxes[start:stop].reshape(-1)
                met = kernels.quantize_blocks_by(pairs, own, factor, out, out_scale, 0, out_scale.size)
            largest = max(largest, int(met))
        return largest

    if max(_spread(pack, rows, step, threads)) >= BF16_INF:
        _refuse(fp8_block_to_bf16(weight, scale_inv, block=block, threads=threads))
    return packed, scale


def dequantize(
    packed: np.ndarray, scale: np.ndarray, scale_2: float | np.floating, *, threads: int = 1
) -> np.ndarray:
    """Packed FP4 and its scales to BF16 bits, uint16 [rows, cols].

    bf16(value(code) · (float32(scale) · scale_2)), as `NVFP4QTensor.dequantize` to BF16; code 8 (a
    negative that rounded to zero) comes back as +0.0.
    """
    _expect_matrix(packed, "packed", np.uint8)
    _expect_matrix(scale, "scale", np.uint8)
    rows, half = packed.shape
    if 2 * half != BLOCK * scale.shape[1] or rows != scale.shape[0]:
        raise ValueError(f"packed {packed.shape} and scale {scale.shape} are not of one weight")
    kernels = _kernels()
    bits = np.empty((rows, 2 * half), np.uint16)
    codes, scales = np.ascontiguousarray(packed).reshape(-1), np.ascontiguousarray(scale).reshape(-1)
    pairs = bits.reshape(-1).view(np.uint32)
    factor = np.float32(scale_2)

    def unpack(begin: int, end: int) -> None:
        kernels.dequantize_blocks(codes, scales, factor, pairs, begin, end)

    _spread(unpack, scale.size, _GRAIN // BLOCK, threads)
    return bits


def _kernels() -> Any:
    """numba takes most of a second to import: whoever only reads scales need not wait for it."""
    from proofcard.nvfp4 import kernels

    return kernels


def _spread(work: Callable[[int, int], Any], count: int, grain: int, threads: int) -> list[Any]:
    """work(begin, end) over 0 to count, on so many threads, several pieces each in case one is slow.

    Plain threads, not numba's: the kernels hold no GIL, and this neither depends on which OpenMP is
    installed nor breaks a process that forks or calls from two threads at once.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; at least 1 is needed")
    if threads == 1 or count <= grain:
        return [work(0, count)]
    size = max(grain, -(-count // (4 * threads)))
    begins = range(0, count, size)
    with ThreadPoolExecutor(min(threads, len(begins))) as pool:
        return list(pool.map(lambda begin: work(begin, min(count, begin + size)), begins))


def _expect(array: np.ndarray, name: str, dtype: type[np.generic]) -> None:
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}; {np.dtype(dtype)} bits are needed")
    if array.size == 0:
        raise ValueError(f"{name} is empty: {array.shape}")


def _expect_matrix(array: np.ndarray, name: str, dtype: type[np.generic]) -> None:
    _expect(array, name, dtype)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; flatten it to [rows, cols]")


def _expect_fp8(
    weight: np.ndarray, scale_inv: np.ndarray, block: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    _expect_matrix(weight, "weight", np.uint8)
    _expect_matrix(scale_inv, "scale_inv", np.float32)
    if min(block) < 1:
        raise ValueError(f"block is {block}; both sides must be at least 1")
    wanted = tuple(-(-size // side) for size, side in zip(weight.shape, block, strict=True))
    if scale_inv.shape != wanted:
        raise ValueError(
            f"scale_inv has shape {scale_inv.shape}; {weight.shape} in blocks of {block} needs {wanted}"
        )
    return np.ascontiguousarray(weight), np.ascontiguousarray(scale_inv)


def _expect_amaxes(amaxes: np.ndarray, shape: tuple[int, int]) -> None:
    _expect_matrix(amaxes, "block_amaxes", np.float32)
    if amaxes.shape != shape:
        raise ValueError(f"block_amaxes has shape {amaxes.shape}; the weight's blocks are {shape}")


def _blocks_of(weight: np.ndarray) -> tuple[int, int]:
    rows, cols = weight.shape
    if cols % BLOCK:
        raise ValueError(f"weight has {cols} columns; NVFP4 needs a multiple of {BLOCK}")
    return rows, cols


def _expect_scale_2(scale_2: float | np.floating) -> np.float32:
    value = np.float32(scale_2)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(
            f"scale_2 is {value}; it must be finite and above zero (an all-zero weight has none)"
        )
    return value


def _value(bits: int) -> np.float32:
    return np.float32(bf16_to_f32(np.array(bits, np.uint16)))


def _refuse(bits: np.ndarray) -> None:
    """Name the first BF16 value that is not finite."""
    at = np.unravel_index(int(np.argmax((bits & BF16_INF) == BF16_INF)), bits.shape)
    raise ValueError(f"weight{[int(i) for i in at]} is {_value(bits[at])}; every weight must be finite")
