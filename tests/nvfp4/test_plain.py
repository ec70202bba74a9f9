"""The loops in numpy write the bytes of the compiled ones, also where numbers are odd."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from proofcard import nvfp4
from proofcard.checkpoint.dialects import loops
from proofcard.checkpoint.dialects import plain as dialects
from proofcard.nvfp4 import fp8, packing, plain, unpacking

LOOPS = (
    (packing, "quantize_blocks", plain.quantize_blocks),
    (packing, "quantize_blocks_by", plain.quantize_blocks_by),
    (packing, "_largest_bf16", plain.largest_bf16),
    (fp8, "quantize_blocks", plain.quantize_blocks),
    (fp8, "quantize_blocks_by", plain.quantize_blocks_by),
    (fp8, "_widen_fp8_rows", plain.widen_fp8_rows),
    (fp8, "_block_amaxes_fp8_rows", plain.block_amaxes_fp8_rows),
    (fp8, "_largest_fp8", plain.largest_fp8),
    (unpacking, "_dequantize_blocks", plain.dequantize_blocks),
    (loops, "_amaxes", dialects.amaxes),
    (loops, "_e4m3", dialects.e4m3),
    (loops, "_pack", dialects.pack),
    (loops, "_errors", dialects.errors),
    (loops, "_unpack", dialects.unpack),
)


def both(work: Callable[[], tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work with either kind of loops, and compare."""
    compiled = work()
    with monkeypatch.context() as patch:
        for module, name, function in LOOPS:
            patch.setattr(module, name, function)
        ours = work()
    for one, other in zip(compiled, ours, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def weights(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """BF16 of all sizes, with an empty block, ones that underflow, and a row of any bit patterns."""
    values = random.normal(0, 1, (rows, columns)) * 10.0 ** random.uniform(-30, 6, (rows, 1))
    bits = nvfp4.f32_to_bf16(values.astype(np.float32))
    bits[0, :16] = 0
    bits[0, 16:32] = 0x8000
    bits[-1] = random.integers(0, 1 << 16, columns).astype(np.uint16) & 0xBFFF
    return bits


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(3, 32), (130, 1040), (700, 272)])
def test_from_bf16(shape: tuple[int, int], threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(shape[0])
    bits = weights(random, *shape)
    amaxes = random.uniform(0, 3, (shape[0], shape[1] // 16)).astype(np.float32)
    for factor in (1, 1e-3, 40):
        scale_2 = np.float32(nvfp4.amax(bits) * np.float32(factor) / 2688)

        def work(scale_2: np.float32 = scale_2) -> tuple[Any, ...]:
            packed, scale = nvfp4.quantize(bits, scale_2, threads=threads)
            by = nvfp4.quantize(bits, scale_2, block_amaxes=amaxes, threads=threads)
            again = nvfp4.dequantize(packed, scale, scale_2, threads=threads)
            return packed, scale, *by, again, nvfp4.amax(bits, threads=threads)

        both(work, monkeypatch)


@pytest.mark.parametrize("block", [(128, 128), (32, 24), (1, 1040)])
def test_from_fp8(block: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(block[0])
    rows, columns = 150, 1040
    codes = random.integers(0, 256, (rows, columns)).astype(np.uint8)
    codes[(codes & 0x7F) == 0x7F] ^= 1
    sides = (-(-rows // block[0]), -(-columns // block[1]))
    factors = np.exp(random.normal(-3, 4, sides)).astype(np.float32)
    factors.reshape(-1)[0] *= -1

    def work() -> tuple[Any, ...]:
        amax = nvfp4.amax_fp8(codes, factors, block=block)
        scale_2 = nvfp4.weight_scale_2(amax)
        bits = nvfp4.fp8_block_to_bf16(codes, factors, block=block, threads=2)
        unrounded = nvfp4.quantize_fp8(codes, factors, scale_2, block=block, unrounded_scales=True, threads=2)
        return amax, bits, *nvfp4.quantize_fp8(codes, factors, scale_2, block=block), *unrounded

    both(work, monkeypatch)


def test_every_code_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    scale = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 32, axis=1)  # NaN and negative ones too
    both(lambda: (nvfp4.dequantize(packed, scale, np.float32(0.7)),), monkeypatch)


@pytest.mark.parametrize("odd", [0x7F, 0xFF])
def test_what_is_not_finite_is_refused_alike(odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.full((40, 64), 0x38, np.uint8)
    codes[33, 20] = odd
    factors = np.ones((1, 1), np.float32)
    both(lambda: (nvfp4.fp8_block_to_bf16(codes, factors),), monkeypatch)
    payload = np.array([[0xFFFFFFFF]], np.uint32).view(np.float32)  # a NaN that an addition would wrap
    both(lambda: (nvfp4.fp8_block_to_bf16(codes & 0x3F, payload),), monkeypatch)
    for module, name, function in LOOPS:
        monkeypatch.setattr(module, name, function)
    with pytest.raises(ValueError, match=r"weight\[33, 20\] is nan"):
        nvfp4.amax_fp8(codes, factors)
    bits = np.full((2, 32), 0x3F80, np.uint16)
    bits[1, 17] = 0x7F80
    for refused in (lambda: nvfp4.amax(bits), lambda: nvfp4.quantize(bits, 1.0)):
        with pytest.raises(ValueError, match=r"weight\[1, 17\] is inf"):
            refused()


@pytest.mark.parametrize("block", [16, 32])
def test_dialects(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(block)
    bits = weights(random, 190, 384)

    def work() -> tuple[Any, ...]:
        amaxes = loops.amaxes(bits, block)
        steps = np.abs(amaxes / 6).astype(np.float32)
        found: list[Any] = [amaxes, loops.e4m3(steps)]
        for multiply in (False, True):
            for signed in (False, True):
                packed = loops.pack(bits, steps, block, multiply=multiply, signed_zero=signed)
                found += [
                    packed,
                    loops.errors(bits, packed, steps, block),
                    loops.unpack(packed, steps, block),
                ]
        return tuple(found)

    with np.errstate(all="ignore"):
        both(work, monkeypatch)
