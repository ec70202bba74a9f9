"""Progress that suits where it is shown: a bar with ETA on a terminal, a line now and then elsewhere."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
_LINE_EVERY = 10.0  # seconds, where there is no terminal


def shown(path: Path) -> str:
    """A path as a person would type it here: relative when it lies below the working folder."""
    here = Path.cwd()
    path = here / path  # not resolved: a link keeps its name
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


class Bar:
    """A context that counts `done` up to `total` of something."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.done = 0
        self._what, self._total, self._unit = what, total, unit
        self._started = self._said = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)

    def __enter__(self) -> "Bar":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """Count on, and show it."""
        self.done += count
        if self._bar is not None:
            self._bar.advance(self._task, count)
            return
        now = time.monotonic()
        if self.done and (now - self._said >= _LINE_EVERY or self.done == self._total):
            self._said = now
            elapsed = now - self._started
            left = elapsed / self.done * (self._total - self.done)
            console.print(f"{self._what}: {self.done}/{self._total} {self._unit}, {left:.0f} s left")
