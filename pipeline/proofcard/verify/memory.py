"""Memory that a thread uses again: the system clears every page of what is new, at the cost of reading it."""

import threading
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Memory(threading.local):
    """Buffers of one thread by their use; each is as large as the largest so far."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def of(self, use: str, size: int) -> Array:
        """`size` bytes, with whatever they held before."""
        buffer = self._buffers.get(use)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[use] = np.empty(size, np.uint8)
        return buffer[:size]
