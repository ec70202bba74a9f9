"""Progress display: a bar with ETA on a terminal, occasional lines elsewhere."""

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from proofcard.cores import side_by_side
from proofcard.screen import Screen, on_one_line

console = Screen(stderr=True)
_LINE_EVERY = 10.0  # seconds, without a terminal
_WORTH_A_BAR = 10**9  # bytes to read
T = TypeVar("T")


def shown(path: Path) -> str:
    """A path as a user would type it: relative if it is below the working directory."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # deleted in the meantime
        return str(path)
    path = here / path  # not resolved: a link keeps its name
    return on_one_line(str(path.relative_to(here) if path.is_relative_to(here) else path))


def over_files(what: str, work: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
    """What `work` gives for each file, in their order, side by side; with a bar where there is much to read.

    A file that is not there counts as empty: `work` will say so.
    """
    size = sum(path.stat().st_size for path in paths if path.exists())
    with Bar(what, len(paths), "files", shows=size > _WORTH_A_BAR) as bar:
        for done in side_by_side(work, paths):
            yield done
            bar.advance()


_this_thread = threading.local()


@contextmanager
def silent() -> Iterator[None]:
    """A context in which this thread's bars are not shown: another one's is."""
    before = getattr(_this_thread, "silent", False)
    _this_thread.silent = True
    try:
        yield
    finally:
        _this_thread.silent = before


class Bar:
    """A context that counts `done` up to `total` of something; only counts where it is too little to show."""

    def __init__(self, what: str, total: int, unit: str, shows: bool = True) -> None:
        self.done = 0
        self._what, self._total, self._unit = on_one_line(what), total, unit
        self._started = self._said = time.monotonic()
        self._bar: Progress | None = None
        self._silent = not shows or getattr(_this_thread, "silent", False)
        if console.is_terminal and not self._silent:
            what_it_is = TextColumn("{task.description}", markup=False)
            columns = (what_it_is, BarColumn(), MofNCompleteColumn(), TextColumn(unit, markup=False))
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
        """Advance the count and show it."""
        self.done += count
        if self._silent:
            return
        if self._bar is not None:
            self._bar.advance(self._task, count)
            return
        now = time.monotonic()
        if self.done and (now - self._said >= _LINE_EVERY or self.done == self._total):
            self._said = now
            elapsed = now - self._started
            left = elapsed / self.done * (self._total - self.done)
            console.print(f"{self._what}: {self.done}/{self._total} {self._unit}, {left:.0f} s left")


class Layers:
    """A context that shows layers and, within one, batches; on a pipe, a line for every layer."""

    def __init__(self, total: int, done: int, shows: bool) -> None:
        self._total, self._done, self._first, self._shows = total, done, done, shows
        self._started = time.monotonic()
        self._bars: Progress | None = None
        if shows and console.is_terminal:
            columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn())
            self._bars = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
            self._layers = self._bars.add_task("layers", total=total, completed=done, note="")
            self._batches = self._bars.add_task("batches", total=None, note="")

    def __enter__(self) -> "Layers":
        if self._shows and self._first:
            console.print(f"resuming after layer {self._first} of {self._total}")
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, batches: int) -> None:
        """Start a layer with this number of batches."""
        self._layer_started, self._tokens = time.monotonic(), 0
        if self._bars is not None:
            self._bars.reset(self._batches, total=batches)

    def advance(self, tokens: int) -> None:
        """Count a finished batch of this many positions."""
        self._tokens += tokens
        if self._bars is not None:
            self._bars.update(self._batches, advance=1, note=self._rate())

    def end(self) -> None:
        """Finish the layer, which is on disk now."""
        self._done += 1
        if self._bars is not None:
            self._bars.update(self._layers, advance=1, note=f"{self._left()}, {peak_memory()}")
        elif self._shows:
            said = f"layer {self._done}/{self._total}: {time.monotonic() - self._layer_started:.1f} s"
            console.print(f"{said}, {self._rate()}, {self._left()}, {peak_memory()}")

    def _rate(self) -> str:
        return f"{self._tokens / max(1e-9, time.monotonic() - self._layer_started):,.0f} tokens/s"

    def _left(self) -> str:
        each = (time.monotonic() - self._started) / (self._done - self._first)
        seconds = each * (self._total - self._done)
        return f"{seconds / 3600:.1f} h left" if seconds >= 3600 else f"{seconds:.0f} s left"


def peak_memory() -> str:
    """The peak memory of this process so far, and of its GPU."""
    said = f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f} GB"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        said += f", GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    return said
