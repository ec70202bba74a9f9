"""Threads that launch work on a GPU side by side: choosing a kernel for a product takes the host longer than
the GPU needs for a small one, and PyTorch lets go of Python's lock meanwhile."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from proofcard.quantize.layerwise.intake import URGENT

_THREADS = 4  # on an H100, two need twice as long for 256 experts, six as long as four


class Crew:
    """Runs independent jobs on a device, on a GPU in four threads, each on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        count = _THREADS if device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(device, priority=URGENT) for _ in range(count)]
        self._pool = ThreadPoolExecutor(count) if count else None

    def run(self, jobs: list[Callable[[], Any]]) -> list[Any]:
        """What the jobs return, in their order, ready for the current stream.

        Each begins after the current stream's work so far. What one allocates belongs to the stream that it
        ran on, and must be freed before the next `run`, whose jobs wait for whatever used it.
        """
        if self._pool is None:
            return [job() for job in jobs]
        results: list[Any] = [None] * len(jobs)
        numbers = iter(range(len(jobs)))
        main = torch.cuda.current_stream(self._device)
        begun = main.record_event()

        def work(stream: torch.cuda.Stream) -> None:
            with torch.no_grad(), torch.cuda.stream(stream):
                stream.wait_event(begun)
                for number in numbers:
                    results[number] = jobs[number]()

        waiting = [self._pool.submit(work, stream) for stream in self._streams]
        for done in waiting:
            done.exception()
        for stream in self._streams:
            main.wait_stream(stream)
        for done in waiting:
            done.result()
        return results


@cache
def stream_beside(device: torch.device) -> torch.cuda.Stream:
    """The stream for work that may wait: always the same, since a stream keeps the memory it was given."""
    return torch.cuda.Stream(device)


@cache
def _urgent_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=URGENT)


@contextmanager
def urgent(device: torch.device) -> Iterator[None]:
    """Work on a stream that goes before others, and wait for all work of the device at the end."""
    if device.type != "cuda":
        yield
        return
    stream = _urgent_stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.synchronize(device)
