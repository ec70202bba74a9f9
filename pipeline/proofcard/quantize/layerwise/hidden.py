"""The hidden states between two layers: always on disk, so that a run can resume, and in memory if they fit.

Two files alternate: layer n reads one and writes the other. Each batch has a fixed offset, so that any rank
can read any batch, and a run can resume with another number of ranks.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proofcard.disk import force_to_disk
from proofcard.errors import Stop


class Hidden:
    """Hidden states [samples, tokens, width] of every batch: the input of the layer being calibrated."""

    def __init__(
        self, folder: Path, shapes: list[tuple[int, int]], width: int, dtype: torch.dtype, memory: int
    ) -> None:
        """`shapes` are (samples, tokens) of every batch, `memory` the bytes of RAM they may take."""
        self._shapes = [(*shape, width) for shape in shapes]
        self._dtype = dtype
        sizes = [int(np.prod(shape)) * dtype.itemsize for shape in self._shapes]
        self._starts = [int(start) for start in np.cumsum([0, *sizes])]
        self.bytes = self._starts[-1]
        self._paths = (folder / "hidden-0", folder / "hidden-1")
        self._keep = 2 * self.bytes <= memory
        self._now: dict[int, torch.Tensor] = {}
        self._next: dict[int, torch.Tensor] = {}

    def holds(self, layer: int) -> bool:
        """Whether the file with the input of `layer` exists, once the layer before is complete."""
        path = self._paths[layer % 2]
        return path.exists() and path.stat().st_size == self.bytes

    def allocate(self) -> None:
        """Allocate disk space for both files. Raises OSError when there is not enough."""
        for path in self._paths:
            if path.exists() and path.stat().st_size == self.bytes:
                continue
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.bytes)

    def read(self, layer: int, batch: int) -> torch.Tensor:
        """The input of `layer` for one batch, on the CPU."""
        if batch in self._now:
            return self._now[batch]
        made = torch.empty(self._shapes[batch], dtype=self._dtype)
        with self._paths[layer % 2].open("rb", buffering=0) as file:
            file.seek(self._starts[batch])
            view = memoryview(_bytes(made))
            while view and (got := file.readinto(view)):
                view = view[got:]
        if view:
            raise Stop(f"{self._paths[layer % 2]} is truncated: delete its folder and start over")
        return made

    def write(self, layer: int, batch: int, states: torch.Tensor) -> None:
        """Store the input of `layer` for one batch, from any device."""
        states = states.to("cpu").contiguous()
        if tuple(states.shape) != self._shapes[batch] or states.dtype != self._dtype:
            raise Stop(
                f"layer {layer - 1} returns {states.dtype} {tuple(states.shape)} instead of {self._dtype} "
                f"{self._shapes[batch]}: use engine=modelopt"
            )
        if self._keep:  # in memory of its own: what is pinned is used again, since pinning more takes long
            self._next[batch] = states.clone() if states.is_pinned() else states
        view = memoryview(_bytes(states))
        handle = os.open(self._paths[layer % 2], os.O_WRONLY)
        try:
            at = self._starts[batch]
            while view:
                written = os.pwrite(handle, view, at)
                view, at = view[written:], at + written
        finally:
            os.close(handle)

    def flush(self, layer: int) -> None:
        """Force to disk what has been written of the input of `layer`."""
        force_to_disk(self._paths[layer % 2])

    def turn(self, layer: int) -> None:
        """All of `layer`'s input has been written: force it to disk and make it the current one."""
        self.flush(layer)
        self._now, self._next = self._next, {}

    def file(self, layer: int) -> Path:
        """The file of what goes into `layer`."""
        return self._paths[layer % 2]

    def forget(self) -> None:
        """Drop what is in memory: a file has been put in its place."""
        self._now, self._next = {}, {}

    def remove(self) -> None:
        """Delete both files once the last layer is done."""
        for path in self._paths:
            path.unlink(missing_ok=True)


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.view(-1).view(torch.uint8).numpy()
