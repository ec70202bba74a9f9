import numba
import numpy as np
import pytest

from proofcard import nvfp4
from proofcard.nvfp4 import bits, packing

torch = pytest.importorskip("torch")


@numba.njit
def cast_all(values, codes):
    for i in range(values.size):
        codes[i] = packing.e4m3_code(values[i])


@numba.njit
def decode_all(values):
    for code in range(256):
        values[code] = packing.e4m3_value(np.uint32(code))


def test_e4m3_values():
    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    by_arithmetic = np.empty(256, np.float32)
    decode_all(by_arithmetic)
    np.testing.assert_array_equal(by_arithmetic, theirs)
    np.testing.assert_array_equal(nvfp4.e4m3_to_f32(np.arange(256, dtype=np.uint8)), theirs)
    np.testing.assert_array_equal(bits.E4M3_VALUES, theirs)
    assert np.signbit(by_arithmetic[0x80]) and np.signbit(bits.E4M3_VALUES[0x80])


def test_e4m3_cast_up_to_464():
    """Every 2048th float32 from 0, and two float32 steps around each value and each midpoint."""
    grid = np.arange(0, np.float32(464).view(np.uint32) + 1, 2048, dtype=np.uint32)
    exact = bits.E4M3_VALUES[:0x7F]
    marks = np.concatenate([exact, (exact[1:] + exact[:-1]) / 2]).view(np.uint32).astype(np.int64)
    near = (marks[:, None] + np.arange(-2, 3)).clip(0).astype(np.uint32).reshape(-1)
    values = np.concatenate([grid, near]).view(np.float32)
    codes = np.empty(values.size, np.uint8)
    cast_all(values, codes)
    theirs = torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    np.testing.assert_array_equal(codes, theirs)


def test_e4m3_cast_saturates():
    codes = np.empty(4, np.uint8)
    cast_all(np.float32([464.1, 480, 1e30, np.inf]), codes)
    assert codes.tolist() == [0x7E] * 4


def test_bf16():
    every = np.arange(1 << 16, dtype=np.uint16)
    values = nvfp4.bf16_to_f32(every)
    theirs = torch.from_numpy(every).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(values.view(np.uint32), theirs.view(np.uint32))
    finite = ~np.isnan(values)
    np.testing.assert_array_equal(nvfp4.f32_to_bf16(values)[finite], every[finite])
    assert (nvfp4.f32_to_bf16(values)[~finite] == 0x7FC0).all()
    random = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32)
    random = random.view(np.float32)[~np.isnan(random.view(np.float32))]
    rounded = torch.from_numpy(random).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(nvfp4.f32_to_bf16(random), rounded)
