"""ModelOpt's own packer as the truth, on raw bits."""

import importlib
import importlib.util
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Packed = tuple[np.ndarray, np.ndarray]


def _as_published() -> Any:
    """The installed module itself: another test of this process may have activated a patch series."""
    name = "modelopt.torch.quantization.qtensor.nvfp4_tensor"
    module = importlib.import_module(name)
    installed = Path(sysconfig.get_path("purelib"), *name.split(".")).with_suffix(".py")
    if module.__file__ is not None and Path(module.__file__).resolve() == installed.resolve():
        return module
    spec = importlib.util.spec_from_file_location(f"{name}_as_published", installed)
    assert spec is not None and spec.loader is not None
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    return published


@pytest.fixture(scope="session")
def qtensor() -> Iterator[type]:
    pytest.importorskip("modelopt")
    nvfp4_tensor = _as_published()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvfp4_tensor, "fp4_compatible", lambda: False)  # it asks a driver that may be missing
        yield nvfp4_tensor.NVFP4QTensor


@pytest.fixture(scope="session")
def modelopt(qtensor: type) -> Callable[..., Packed]:
    """(bf16 bits, scale_2, saturate) -> packed, scale: each step ModelOpt's, or with the cast clamped."""
    import torch

    def quantize(bits: np.ndarray, scale_2: np.float32, saturate: bool = False) -> Packed:
        weight = torch.from_numpy(bits.copy()).view(torch.bfloat16)
        factor = torch.tensor(scale_2)
        scale = qtensor.get_weights_scaling_factor(weight, 16, factor, keep_high_precision=saturate)[0]
        if saturate:
            scale = scale.clamp(max=448.0).to(torch.float8_e4m3fn)
        packed = qtensor.quantize(weight, 16, scale, factor)[0]._quantized_data
        return packed.numpy(), scale.view(torch.uint8).numpy()

    return quantize


@pytest.fixture(scope="session")
def modelopt_resident(qtensor: type) -> Callable[..., Packed]:
    """(FP8 codes, factor of each weight, scale_2) -> packed, scale, as of a model that stays in FP8.

    `_export_quantized_weight` takes the scales of the float32 product and the codes of `weight.to(bfloat16)`.
    """
    import torch

    def quantize(codes: np.ndarray, factors: np.ndarray, scale_2: np.float32) -> Packed:
        weight = torch.from_numpy(codes.copy()).view(torch.float8_e4m3fn).float() * torch.from_numpy(factors)
        factor = torch.tensor(scale_2)
        scale = qtensor.get_weights_scaling_factor(weight, 16, factor)[0]
        packed = qtensor.quantize(weight.to(torch.bfloat16), 16, scale, factor)[0]._quantized_data
        return packed.numpy(), scale.view(torch.uint8).numpy()

    return quantize


@pytest.fixture(scope="session")
def modelopt_dequantize(qtensor: type) -> Callable[..., np.ndarray]:
    import torch

    def dequantize(packed: np.ndarray, scale: np.ndarray, scale_2: np.float32) -> np.ndarray:
        shape = torch.Size((packed.shape[0], 2 * packed.shape[1]))
        tensor = qtensor(shape, torch.bfloat16, torch.from_numpy(packed.copy()))
        weight = tensor.dequantize(
            torch.bfloat16,
            scale=torch.from_numpy(scale.copy()).view(torch.float8_e4m3fn),
            double_scale=torch.tensor(scale_2),
            block_sizes={-1: 16},
        )
        return weight.view(torch.uint16).numpy()

    return dequantize
