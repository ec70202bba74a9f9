"""What `match` accepts is what `quantize` gives, byte for byte, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from proofcard import nvfp4
from proofcard.nvfp4 import matching, packing
from proofcard.nvfp4.compiled import kernels

Random = np.random.Generator
SHAPES = [(1, 16), (3, 48), (5, 1040), (130, 272)]


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops that this machine runs, and those of an installation without numba."""
    if request.param == "numpy":
        monkeypatch.setattr(matching, "_match_blocks", matching._plain_blocks)
        monkeypatch.setattr(matching, "_match_fp8_rows", matching._plain_fp8_rows)


def bf16(random: Random, rows: int, columns: int) -> np.ndarray:
    """Of all sizes, with blocks of zeros and of values that underflow beside large ones."""
    values = random.normal(0, 1, (rows, columns)) * 10.0 ** random.uniform(-30, 6, (rows, 1))
    bits = nvfp4.f32_to_bf16(values.astype(np.float32))
    bits[0, :8], bits[0, 8:16], bits[-1, -16:] = 0, 0x8000, 1
    return bits


def fp8(random: Random, rows: int, columns: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    codes = random.integers(0, 0x7F, (rows, columns), np.uint8)
    codes |= random.integers(0, 2, codes.shape, np.uint8) << 7
    scale = random.uniform(1e-6, 0.1, (-(-rows // block), -(-columns // block))).astype(np.float32)
    return codes, scale


def changed(random: Random, array: np.ndarray) -> np.ndarray:
    """One bit of it is another."""
    other = array.copy()
    other.reshape(-1)[random.integers(array.size)] ^= 1 << random.integers(8)
    return other


def held(check: Callable[[Any, Any], matching.Match], packed: Any, scale: Any, random: Random) -> None:
    """What was packed matches, and with any bit flipped it does not."""
    assert check(packed, scale)[:2] == (True, not scale.all())
    for _ in range(8):
        assert not check(changed(random, packed), scale).follows
        assert not check(packed, changed(random, scale)).follows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 1e-3, 40, 1e30])
def test_from_bf16(shape: tuple[int, int], factor: float) -> None:
    random = np.random.default_rng(shape[1])
    bits = bf16(random, *shape)
    scale_2 = max(np.float32(nvfp4.amax(bits) * np.float32(factor) / 2688), np.float32(1e-38))
    made = nvfp4.quantize(bits, scale_2)
    held(lambda packed, scale: matching.match(bits, scale_2, packed, scale), *made, random)
    assert matching.match(bits, scale_2, *made).amax == nvfp4.amax(bits)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [8, 24, 128])
@pytest.mark.parametrize("unrounded", [True, False])
def test_from_fp8(shape: tuple[int, int], block: int, unrounded: bool) -> None:
    random = np.random.default_rng(shape[1] + block)
    codes, scale_inv = fp8(random, *shape, block)
    settings: Any = {"block": (block, block), "unrounded_scales": unrounded}
    scale_2 = nvfp4.weight_scale_2(nvfp4.amax_fp8(codes, scale_inv, block=(block, block)))
    made = nvfp4.quantize_fp8(codes, scale_inv, scale_2, **settings)
    held(lambda p, s: matching.match_fp8(codes, scale_inv, scale_2, p, s, **settings), *made, random)
    amax = matching.match_fp8(codes, scale_inv, scale_2, *made, **settings).amax
    assert amax == nvfp4.amax_fp8(codes, scale_inv, block=(block, block))


@pytest.mark.parametrize("value", [0x7F80, 0xFF80, 0x7FC0, 0xFFFF])
def test_what_is_not_finite_never_matches(value: int) -> None:
    bits = np.full((2, 32), 0x3F80, np.uint16)
    packed, scale = nvfp4.quantize(bits, np.float32(1 / 2688))
    bits[1, 7] = value
    assert not matching.match(bits, np.float32(1 / 2688), packed, scale).follows


def test_other_shapes_are_refused() -> None:
    bits = np.full((2, 32), 0x3F80, np.uint16)
    packed, scale = nvfp4.quantize(bits, np.float32(1))
    for stored in ((packed[:1], scale), (packed, scale[:, :1]), (packed.view(np.uint16), scale)):
        with pytest.raises(ValueError):
            matching.match(bits, np.float32(1), *stored)


@pytest.mark.skipif(kernels() == "numpy", reason="without numba there is only one rounding")
def test_one_addition_rounds_as_seven_comparisons() -> None:
    """Every float32 of which E2M1 has a neighbour, from 0.125 to 8; of the others, one in 4,099."""
    import numba

    @numba.njit
    def differing(first: int, last: int, step: int) -> int:
        count = 0
        for bits in range(first, last, step):
            y = np.uint32(bits).view(np.float32)
            count += matching.nearest_e2m1(y) != packing.e2m1_code(y)
        return count

    for sign in (0, 1 << 31):
        assert differing(sign + 0x3E000000, sign + 0x41000000, 1) == 0
        assert differing(sign, sign + (1 << 31), 4099) == 0
