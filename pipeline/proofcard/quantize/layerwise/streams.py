"""Two queues of work on a GPU, so that the routed pass of a batch overlaps the forced pass of the one before.

The routed pass is many small kernels, and it asks the GPU which rows each expert gets: it waits for every
answer. Behind a forced pass in one queue it would wait for that as well. Kernels and their operands are the
same in any queue, so bytes are too. On a CPU everything runs in turn.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BEHIND = 2  # forced passes that may be queued, each with its block's input in memory
_HIGH = -1  # priority: small kernels go before the waves of a large product


class Streams:
    """The routed pass's stream, and the current one for forced passes. Nothing at all on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._on = device.type == "cuda"
        if self._on:
            self._routed = torch.cuda.Stream(device, priority=_HIGH)
            self._forced = torch.cuda.current_stream(device)
        self._ends: list[torch.cuda.Event] = []

    @contextmanager
    def routed(self) -> Iterator[None]:
        """Queue work on the routed pass's stream; before and after, both streams wait for each other."""
        if not self._on:
            yield
            return
        self.join()
        with torch.cuda.stream(self._routed):
            yield
        self._forced.wait_stream(self._routed)
        self.join()

    @contextmanager
    def forced(self, states: torch.Tensor) -> Iterator[None]:
        """Within `routed`: queue work that reads `states` on the other stream."""
        if not self._on:
            yield
            return
        while len(self._ends) >= _BEHIND:
            self._ends.pop(0).synchronize()
        self._forced.wait_stream(self._routed)
        states.record_stream(self._forced)
        with torch.cuda.stream(self._forced):
            yield
            end = torch.cuda.Event()
            end.record()
        self._ends.append(end)

    def join(self) -> None:
        """Let the routed pass's stream wait for every forced pass that is queued."""
        if self._on:
            self._routed.wait_stream(self._forced)
