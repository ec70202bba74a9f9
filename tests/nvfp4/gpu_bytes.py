"""The Triton kernels against the CPU's, byte for byte: on a GPU, or in Triton's interpreter without one.

`test_triton_kernels.py` runs this in a process of its own: the interpreter has to be chosen before Triton is
imported.
"""

import numpy as np
import pytest
import torch
from nvfp4.test_quantize import KINDS, drawn

from proofcard import nvfp4
from proofcard.nvfp4 import gpu

SHAPES = [(1, 16), (3, 48), (7, 1040), (64, 256), (9, 3072)]  # up to several programs, the last not full
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


def on_device(bits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(bits.copy()).view(torch.bfloat16).to(DEVICE)


def assert_same(weight: np.ndarray, scale_2: np.float32) -> None:
    packed, scale = gpu.quantize(on_device(weight), scale_2)
    expected_packed, expected_scale = nvfp4.quantize(weight, scale_2)
    np.testing.assert_array_equal(scale.cpu().numpy(), expected_scale, err_msg="scale")
    np.testing.assert_array_equal(packed.cpu().numpy(), expected_packed, err_msg="packed")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_the_cpu_s(kind: str, shape: tuple[int, int]) -> None:
    weight = drawn(kind, shape)
    assert_same(weight, nvfp4.weight_scale_2(max(nvfp4.amax(weight), np.float32(1e-37))))


@pytest.mark.parametrize("scale_2", [1e-44, 1e-38, 3.7e-12, 1 / 2688, 1 / 6, 0.01, 1.0, 913.7, 1e35])
def test_every_finite_bf16(scale_2: float) -> None:
    mixed = np.random.default_rng(0).permutation(finite())
    assert_same(mixed.reshape(-1, 16), np.float32(scale_2))


@pytest.mark.parametrize("scale_2", [1e-44, 1 / 2688, 1e35])
def test_every_finite_bf16_among_those_next_to_it(scale_2: float) -> None:
    assert_same(finite().reshape(-1, 16), np.float32(scale_2))


def finite() -> np.ndarray:
    """The bits of every finite bf16, in order."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    return bits[(bits & 0x7F80) != 0x7F80]


def test_amaxes_are_the_cpu_s_and_show_what_is_not_finite() -> None:
    weights = [drawn(kind, (7, 1040)) for kind in KINDS]
    found = gpu.amaxes([on_device(weight) for weight in weights])
    assert [np.float32(value) for value in found] == [nvfp4.amax(weight) for weight in weights]
    for bits in (0x7FC0, 0x7F80, 0xFF80):
        harmed = weights[0].copy()
        harmed[3, 500] = bits
        assert not np.isfinite(gpu.amaxes([on_device(harmed)]))[0]


@pytest.mark.parametrize("shape", [(128, 128), (200, 300), (1, 17), (384, 256)], ids=str)
def test_fp8_becomes_the_cpu_s_bf16(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    codes = np.resize(np.arange(256, dtype=np.uint8), shape)
    codes[(codes & 0x7F) == 0x7F] = 0
    scale = rng.uniform(1e-5, 3.0, [-(-size // 128) for size in shape]).astype(np.float32)
    weight = torch.from_numpy(codes.copy()).view(torch.float8_e4m3fn).to(DEVICE)
    made = gpu.fp8_block_to_bf16(weight, torch.from_numpy(scale).to(DEVICE), (128, 128))
    np.testing.assert_array_equal(
        made.cpu().view(torch.uint16).numpy(), nvfp4.fp8_block_to_bf16(codes, scale)
    )


def test_given_block_amaxes_give_the_cpu_s_bytes() -> None:
    rng = np.random.default_rng(5)
    codes = (rng.integers(0, 0x7F, (200, 272)) | rng.integers(0, 2, (200, 272)) << 7).astype(np.uint8)
    scale_inv = (2.0 ** rng.uniform(-20, 1, (2, 3))).astype(np.float32)
    amaxes = nvfp4.block_amaxes_fp8(codes, scale_inv)
    weight = nvfp4.fp8_block_to_bf16(codes, scale_inv)
    scale_2 = nvfp4.weight_scale_2(nvfp4.amax(weight))
    made = gpu.quantize(on_device(weight), scale_2, torch.from_numpy(amaxes).to(DEVICE))
    expected = nvfp4.quantize(weight, scale_2, block_amaxes=amaxes)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), other)
    assert (expected[1] != nvfp4.quantize(weight, scale_2)[1]).any()


def test_a_width_that_is_no_multiple_of_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="17 columns; NVFP4 needs a multiple of 16"):
        gpu.quantize(torch.zeros(2, 17, dtype=torch.bfloat16, device=DEVICE), np.float32(1))
