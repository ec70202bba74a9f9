"""Copies weights from the source's files to a GPU while the layer before is being worked on.

They are copied as stored, FP8 in one byte, through two pinned buffers on a separate stream, and dequantized
on the device. That is little work, and goes before the screen's: each of its kernels would wait for one of
the screen's otherwise, with CUDA's lock held.
"""

import numpy as np
import torch

from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.quantize.model import TORCH, dtype

URGENT = -1
"""The priority of a stream whose work goes before the screen's, which has the default."""

_BUFFER = 64 << 20  # bytes; two of them


class Intake:
    """Reads tensors of a source onto a CUDA device; one thread at a time may use it."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self._source, self._device = source, device
        self._stream = torch.cuda.Stream(device, priority=URGENT)
        self._buffers = [torch.empty(_BUFFER, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._free = [torch.cuda.Event() for _ in self._buffers]
        self._turn = 0

    def read(self, names: list[str]) -> dict[str, torch.Tensor]:
        """The named weights as the model uses them, complete when this returns."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            weights = {name: self._weight(name) for name in names}
        self._stream.synchronize()
        return weights

    def _weight(self, name: str) -> torch.Tensor:
        from proofcard.nvfp4 import gpu

        stored = self._source.tensors[name]
        if stored.dtype != "F8_E4M3":
            crossed = self._cross(name).view(TORCH[stored.dtype]).view(stored.shape)
            return crossed.to(dtype(self._source, name))
        scale = self._source.fp8_scale(name)
        weight = self._cross(name).view(torch.float8_e4m3fn).view(stored.shape)
        factor = self._cross(name + SCALE_SUFFIX).view(TORCH[scale.dtype]).view(scale.shape)
        return gpu.fp8_block_to_bf16(weight, factor, self._source.block)

    def _cross(self, name: str) -> torch.Tensor:
        """A stored tensor's bytes on the device, ordered on the copy stream."""
        stored = self._source.stored(name).raw()
        made = torch.empty(stored.size, dtype=torch.uint8, device=self._device)
        for start in range(0, stored.size, _BUFFER):
            piece = stored[start : start + _BUFFER]
            buffer, free = self._buffers[self._turn], self._free[self._turn]
            free.synchronize()
            np.copyto(buffer.numpy()[: piece.size], piece)
            made[start : start + piece.size].copy_(buffer[: piece.size], non_blocking=True)
            free.record(self._stream)
            self._turn ^= 1
        return made
