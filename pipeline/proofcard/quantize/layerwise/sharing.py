"""Tells ranks what the others have recorded while a pass lasts, which spares its screen work.

It affects no result: maxima over ranks are taken after the pass, of what each rank recorded itself, and a
rank hears only of batches before its next one. So it does not matter when something is heard, if at all.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from proofcard.calibration.batches import Batch
from proofcard.quantize.layerwise.observer import Observer
from proofcard.ranks import Ranks


class Sharing:
    """A context of one pass. Every rank calls `tell` after each of its batches; nobody waits in it."""

    def __init__(self, ranks: Ranks, batches: list[Batch], observer: Observer) -> None:
        self._ranks, self._observer = ranks, observer
        turns = len(batches) // ranks.count if ranks.count > 1 else 0  # the batches that every rank has
        self._datasets = deque(batch.dataset for batch in batches[:: ranks.count][:turns])
        self._going: deque[tuple[str, Future[torch.Tensor]]] = deque()
        self._pool = ThreadPoolExecutor(1)  # in turn: a reduction is one call of every rank

    def __enter__(self) -> "Sharing":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def tell(self) -> None:
        """Send what this rank has recorded of the dataset that rank 0 is at."""
        if not self._datasets:
            return
        dataset = self._datasets.popleft()
        largest = self._observer.recorded(dataset).nan_to_num(0.0, float("inf"))
        there = None
        if largest.is_cuda:
            held = torch.empty(largest.shape, dtype=largest.dtype, pin_memory=True)
            held.copy_(largest, non_blocking=True)
            largest, there = held, torch.cuda.current_stream(largest.device).record_event()
        self._going.append((dataset, self._pool.submit(self._reduced, largest, there)))

    def hear(self) -> None:
        """Let the observer know what has arrived. Raises Stop when another rank is lost."""
        while self._going and self._going[0][1].done():
            self._take()

    def finish(self) -> None:
        """Wait until everything sent has arrived. Raises Stop when another rank is lost."""
        while self._going:
            self._take()

    def _take(self) -> None:
        dataset, coming = self._going.popleft()
        self._observer.hear(dataset, coming.result())

    def _reduced(self, largest: torch.Tensor, there: torch.cuda.Event | None) -> torch.Tensor:
        if there is not None:
            there.synchronize()
        self._ranks.largest_aside(largest)
        return largest
