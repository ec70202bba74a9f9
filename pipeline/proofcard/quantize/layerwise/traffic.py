"""Moves hidden states between files and the device while the GPU works.

On a CPU nothing would overlap: there each is read and written in turn.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from proofcard.quantize.layerwise.hidden import Hidden

_THREADS = 5  # as many as there can be reads and writes at a time, and what forces them to disk
_BEHIND = 2  # outputs that may wait to be written, each in pinned memory


class Traffic:
    """A context that yields the inputs of one layer in order and stores its outputs."""

    def __init__(self, hidden: Hidden, layer: int, device: torch.device) -> None:
        self._hidden, self._layer, self._device = hidden, layer, device
        self._pool = ThreadPoolExecutor(_THREADS) if device.type == "cuda" else None
        self._going: list[Future[None]] = []
        self._flushing: Future[None] | None = None

    def __enter__(self) -> "Traffic":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def inputs(self, numbers: range) -> Iterator[tuple[int, torch.Tensor | None]]:
        """Batch numbers and the layer's inputs on the device; None for layer 0, which takes token ids."""
        if self._layer == 0:
            yield from ((number, None) for number in numbers)
        elif self._pool is None:
            for number in numbers:
                yield number, self._hidden.read(self._layer, number)
        else:
            coming = [self._pool.submit(self._read_pinned, number) for number in numbers[:1]]
            for i, number in enumerate(numbers):
                states = coming.pop().result()
                coming += [self._pool.submit(self._read_pinned, later) for later in numbers[i + 1 : i + 2]]
                yield number, states.to(self._device, non_blocking=True)

    def send(self, number: int, states: torch.Tensor) -> None:
        """Store an input of the next layer."""
        if self._pool is None:
            self._hidden.write(self._layer + 1, number, states)
            return
        held = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
        held.copy_(states, non_blocking=True)
        there = torch.cuda.Event()
        there.record()
        self._going.append(self._pool.submit(self._write, number, held, there))
        if len(self._going) > _BEHIND:
            self._going.pop(0).result()
        if self._flushing is None or self._flushing.done():  # else the GPU waits for it after the last batch
            self._flushing = self._pool.submit(self._hidden.flush, self._layer + 1)

    def finish(self) -> None:
        """Wait until everything sent is written. Raises the first error of a write."""
        for going in [*self._going, *filter(None, [self._flushing])]:
            going.result()
        self._going, self._flushing = [], None

    def _read_pinned(self, number: int) -> torch.Tensor:
        return self._hidden.read(self._layer, number).pin_memory()

    def _write(self, number: int, states: torch.Tensor, there: torch.cuda.Event) -> None:
        there.synchronize()
        self._hidden.write(self._layer + 1, number, states)
