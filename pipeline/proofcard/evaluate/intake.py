"""A checkpoint's weights from its files into a GPU's memory: codes and scales cross, dequantized there."""

from typing import Any

import numpy as np
import torch

from proofcard.checkpoint.dialects.layouts import MODELOPT, Layout
from proofcard.evaluate.weights import Checkpoint
from proofcard.nvfp4.plain import E2M1_PAIRS
from proofcard.quantize.layerwise.intake import Intake
from proofcard.quantize.model import TORCH, dtype, tensor


class PackedIntake(Intake):
    """An `Intake` of a checkpoint; one thread at a time may use it."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        readable: Any = checkpoint  # it is read as a source is
        super().__init__(readable, device)
        self._checkpoint, self._readable = checkpoint, readable

    def _weight(self, name: str) -> torch.Tensor:
        from proofcard.nvfp4 import gpu

        stored = self._checkpoint.stored(name)
        linear = self._checkpoint.packed.get(name)
        if linear is not None and linear.layout is MODELOPT and linear.block == gpu.BLOCK:
            packed = self._cross(name).view(stored.shape)
            scale = self._cross(f"{name}_scale").view(linear.scales.shape)
            return gpu.dequantize(packed, scale, linear.shared.bits().reshape(()))
        if linear is not None:
            packed = self._cross(name).view(stored.shape)
            scale = self._cross(f"{name}_scale").view(linear.scales.shape)
            return dequantized(packed, scale, linear.second_level(), linear.layout)
        if stored.dtype == "F8_E4M3":
            return tensor(self._readable, name).to(self._device)
        crossed = self._cross(name).view(TORCH[stored.dtype]).view(stored.shape)
        return crossed.to(dtype(self._readable, name))


def dequantized(
    packed: torch.Tensor, scale: torch.Tensor, shared: np.float32, layout: Layout
) -> torch.Tensor:
    """As `layouts.Linear.bits`: `packed` and E4M3 `scale`, both uint8, to BF16 [rows, columns]."""
    scales = scale.view(torch.float8_e4m3fn).float()
    second = torch.tensor(shared, device=packed.device)
    widths = scales / second if layout.divides else scales * second
    values = torch.from_numpy(E2M1_PAIRS).to(packed.device)[packed.int()].flatten(-2)
    blocks = values.unflatten(-1, (scale.shape[-1], -1))
    return (blocks * widths.unsqueeze(-1)).flatten(-2).to(torch.bfloat16)
