"""A checkpoint's weights from its files into a GPU's memory: codes and scales cross, dequantized there."""

from typing import Any

import torch

from proofcard.evaluate.weights import Checkpoint
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
        if self._checkpoint.is_packed(name):
            packed = self._cross(name).view(stored.shape)
            scale = self._cross(f"{name}_scale").view(self._checkpoint.stored(f"{name}_scale").shape)
            scale_2 = self._checkpoint.stored(f"{name}_scale_2").bits().reshape(())
            return gpu.dequantize(packed, scale, scale_2)
        if stored.dtype == "F8_E4M3":
            return tensor(self._readable, name).to(self._device)
        crossed = self._cross(name).view(TORCH[stored.dtype]).view(stored.shape)
        return crossed.to(dtype(self._readable, name))
