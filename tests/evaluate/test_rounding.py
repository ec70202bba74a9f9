"""Rounding of activations and of the cache, held to ModelOpt's own functions."""

from unittest.mock import patch

import pytest
import torch

from proofcard.evaluate import rounding


@pytest.fixture(autouse=True)
def _without_a_driver() -> object:
    with patch("modelopt.torch.quantization.qtensor.nvfp4_tensor.fp4_compatible", lambda: False):
        yield


def theirs(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    made, scales, _ = NVFP4QTensor.quantize(values.clone(), 16, weights_scaling_factor_2=scale)
    return made.dequantize(scale=scales, double_scale=scale, block_sizes={-1: 16})


@pytest.mark.parametrize("spread", [1.0, 1e-3, 3e4])
def test_activations_are_rounded_as_modelopt_does(spread: float) -> None:
    torch.manual_seed(1)
    values = (spread * torch.randn(300, 64) * torch.rand(300, 1) ** 4).to(torch.bfloat16)
    values[:3] = 0
    scale = values.float().abs().max() / 2688
    assert torch.equal(rounding.nvfp4(values, scale), theirs(values, scale))


def test_every_middle_between_two_numbers_is_rounded_as_modelopt_does() -> None:
    middles = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    row = torch.cat([middles, -middles, torch.tensor([6.0, -6.0])]).to(torch.bfloat16)
    scale = torch.tensor(1.0)
    assert torch.equal(rounding.nvfp4(row[None], scale), theirs(row[None], scale))


def test_what_calibration_did_not_see_saturates() -> None:
    scale = torch.tensor(1.0 / 448)  # calibrated to an amax of 6
    made = rounding.nvfp4(torch.full((1, 16), 100.0), scale)
    assert torch.equal(made, torch.full((1, 16), 6.0))
    assert rounding.fp8(torch.tensor([1e4, -1e4]), torch.tensor([1.0])).tolist() == [448.0, -448.0]


@pytest.mark.parametrize("biased", [False, True])
def test_the_cache_is_at_most_one_step_from_modelopts_reciprocal(biased: bool) -> None:
    """Those are that lie next to the middle between two E4M3 numbers, of BF16 values up to one in eight."""
    from modelopt.torch.quantization.tensor_quant import fp8_eager

    torch.manual_seed(2)
    values = torch.randn(2, 2, 2000, 16).to(torch.bfloat16)
    bias = torch.randn(1, 2, 1, 16).to(torch.bfloat16) if biased else None
    rest = values - bias if bias is not None else values
    amax = rest.abs().max().float()
    own = rounding.fp8(values, (amax / 448).reshape(1), bias)
    other = fp8_eager(rest, amax)
    other = other + bias if bias is not None else other
    assert (own != other).float().mean() < 0.15
    step = (rest.float().abs() / 8).clamp(
        min=float(amax) / 448 / 512
    )  # three bits of mantissa, or a subnormal
    rounded = 2**-7 * other.float().abs()  # of the sum with the bias, in BF16
    assert ((own.float() - other.float()).abs() <= 1.01 * step + rounded).all()


def test_codes_are_dequantized_on_a_gpu_as_on_a_cpu() -> None:
    """The same torch operations on tensors of either."""
    import numpy as np

    from proofcard import nvfp4
    from proofcard.nvfp4 import gpu

    random = np.random.default_rng(5)
    packed = random.integers(0, 256, (40, 32), np.uint8)
    scale = random.integers(0, 0x7F, (40, 4), np.uint8)
    scale_2 = np.float32(0.0123)
    ours = gpu.dequantize(torch.from_numpy(packed), torch.from_numpy(scale), np.asarray(scale_2))
    assert np.array_equal(ours.view(torch.uint16).numpy(), nvfp4.dequantize(packed, scale, scale_2))
