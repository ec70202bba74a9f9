"""A repository of the hub that is read while it comes, a few shards on the disk at a time.

`Streamed.folder` looks like the whole checkpoint: small files are there, shards are placeholders with their
headers. Whoever reads a tensor waits for its shard. Levels say beforehand which shards each of their steps
reads; a shard comes in that order, ahead of them as far as there is room, and goes when no step is left that
reads it.
Every byte is downloaded once. A tensor that is read again later is requested by range and checked by digest.

    with Streamed(repository, work, {"weights"}) as model:
        model.expect("weights", [{"model-00001.safetensors"}, …])
"""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from proofcard.checkpoint import reading
from proofcard.checkpoint.placeholders import SMALL, Placeholder
from proofcard.checkpoint.remote_folder import check_room, fetch_small, listing, placeholders
from proofcard.checkpoint.repository import Repository, quiet
from proofcard.checkpoint.tensors import Tensor
from proofcard.errors import Stop, one_line
from proofcard.files import holes, plain

_AHEAD = 2  # times the largest shard: what may be on the disk, the one that is read and the next
_AGAIN = 256 << 20  # bytes of a tensor that is requested by range when its shard was dropped
_REMEMBERED = 256 << 20  # bytes of such tensors that are kept


class Streamed:
    """A context in which `folder` may be read through `checkpoint.reading` while the shards come and go."""

    def __init__(
        self, repository: Repository, work: Path, levels: Collection[str], keeps: bool = False
    ) -> None:
        """Ask for the listing, the small files and the headers; `levels` are those that will `expect` shards.

        `work` belongs to this repository alone. With `keeps` no shard goes.

        Raises:
            Stop: when the hub refuses or cannot be reached, or the repository holds what no checkpoint does.
        """
        quiet()
        self.repository, self.folder = repository, work / "files"
        self._state, self._keeps = work / "state", keeps
        self._changed = threading.Condition()
        self._open: dict[str, Counter[str]] = {level: Counter() for level in levels}
        self._undeclared = set(levels)
        self._order: list[str] = []
        self._wanted: list[str] = []  # shards that somebody waits for, whatever room there is
        self._pins: Counter[str] = Counter()
        self._again: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._error: BaseException | None = None
        self._closed = False
        self.came = 0  # bytes from the network
        self.files = listing(repository)
        self._sticky: set[str] = set()  # shards that came a second time

    def __enter__(self) -> "Streamed":
        fetch_small(self.repository, self.folder, self.files)
        self._shards = placeholders(self.repository, self.folder, self._state, self.files)
        reading.forget()
        self._holes = {shard.identity() for shard in self._shards.values()}
        holes.update(self._holes)
        reading.incoming[self.folder] = self
        self._thread = threading.Thread(target=self._deliver, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()
        self._thread.join(timeout=2)  # it may wait for the network
        reading.incoming.pop(self.folder, None)
        holes.difference_update(self._holes)
        reading.forget()

    # --- levels ---------------------------------------------------------------------------------------

    def expect(self, level: str, steps: Iterable[Collection[str]]) -> None:
        """The files that each step of a level reads, in the order of the steps."""
        with self._changed:
            known = set(self._order)
            for files in steps:
                for file in sorted(files):
                    self._open[level][file] += 1
                    if file not in known:
                        known.add(file)
                        self._order.append(file)
            self._undeclared.discard(level)
            self._changed.notify_all()

    def done(self, level: str, files: Collection[str]) -> None:
        """A step has ended."""
        with self._changed:
            for file in files:
                self._open[level][file] -= 1
            if not all(self._needed(file) for file in files):
                self._changed.notify_all()

    def leave(self, level: str) -> None:
        """A level has ended, or will read nothing."""
        with self._changed:
            self._open.pop(level, None)
            self._undeclared.discard(level)
            self._changed.notify_all()

    # --- reading --------------------------------------------------------------------------------------

    def read(self, file: str, start: int, size: int, name: str) -> NDArray[np.uint8]:
        """As `reading.read`, once the bytes are here."""
        if file not in self._shards:
            return reading.from_disk(self.folder / file, None, start, size, name)
        shard = self._shards[file]
        tensor = shard.tensor_at(start)  # by place: a level may use another name
        small = tensor is not None and tensor.size <= SMALL
        gone = shard.passed and not shard.here and not self._keeps
        if gone and tensor is not None and SMALL < tensor.size <= _AGAIN:
            return self._once_more(shard, tensor)[start - tensor.start : start - tensor.start + size]
        with self._held(shard, small):
            return reading.from_disk(shard.path, None, start, size, name)

    def digests(self, file: str) -> tuple[str, dict[str, str]]:
        """Hex sha256 of a file and of each of its tensors, taken as its bytes came."""
        shard = self._shards[file]
        with self._held(shard, small=True):
            assert shard.sha256 is not None
            return shard.sha256, shard.inside

    def promised(self, file: str) -> str | None:
        """The hex sha256 that the hub promises of a file, where it does."""
        return self.files[file].sha256

    def comes(self, file: str) -> bool:
        """Whether a file is a placeholder until it is read."""
        return file in self._shards

    @property
    def failed(self) -> bool:
        """Whether the download has ended before its end: what is here is worth keeping for another try."""
        return self._error is not None

    def give_up(self) -> None:
        """Wake all waiting readers; an unfinished download resumes in the next run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def shards(self) -> list[str]:
        """Names of the safetensors files."""
        return [file for file in self._shards if file.endswith(".safetensors")]

    def keep(self, target: Path) -> None:
        """Move what is here to `target`, once no file of it is a placeholder any more.

        Raises:
            Stop: when the rest of it cannot be had.
        """
        for file in self._shards:
            self.digests(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            self.folder.rename(target)

    @contextmanager
    def _held(self, shard: Placeholder, small: bool) -> Iterator[None]:
        """A context in which the file's bytes are here; with `small`, those that stay after it has gone."""
        with self._changed:
            self._pins[shard.name] += 1
            patient = reading.is_patient()
            while not (shard.here or (small and shard.passed)):
                if self._error is not None:
                    raise reading.Lost(one_line(self._error)) from self._error
                if self._closed:
                    raise reading.Lost("given up")
                if shard.passed:
                    self._sticky.add(shard.name)
                if shard.name not in self._wanted and not (patient and self._leaders()):
                    self._wanted.append(shard.name)
                    self._changed.notify_all()
                self._changed.wait(1.0 if patient else None)
        try:
            yield
        finally:
            with self._changed:
                self._pins[shard.name] -= 1
                if not self._needed(shard.name):
                    self._changed.notify_all()

    def _leaders(self) -> bool:
        """Whether a level is at work for whose sake the patient ones wait."""
        return reading.LEADS in self._open

    def _once_more(self, shard: Placeholder, tensor: Tensor) -> NDArray[np.uint8]:
        """A tensor whose shard has been here and gone."""
        with self._changed:
            if tensor.name in self._again:
                self._again.move_to_end(tensor.name)
                return self._again[tensor.name]
        last = tensor.start + tensor.size - 1
        content = self.repository.span(shard.name, tensor.start, last)
        if hashlib.sha256(content).hexdigest() != shard.inside.get(tensor.name):
            raise Stop(
                f"{self.repository}: {plain(tensor.name)} came with other bytes than before: try again later"
            )
        array = np.frombuffer(bytearray(content), np.uint8)
        with self._changed:
            self._again[tensor.name] = array
            while sum(kept.size for kept in self._again.values()) > _REMEMBERED:
                self._again.popitem(last=False)
        return array

    # --- the download ---------------------------------------------------------------------------------

    def _deliver(self) -> None:
        try:
            while (shard := self._next()) is not None:
                check_room(self.repository, self.folder, shard.promised.size - shard.came)
                shard.bring(self.repository, self._tick)
                with self._changed:
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> Placeholder | None:
        """The shard to bring now, once there is one; None when the context is left."""
        with self._changed:
            while not self._closed:
                self._let_go()
                self._wanted = [name for name in self._wanted if not self._shards[name].here]
                if self._wanted:
                    return self._shards[self._wanted[0]]
                if not self._undeclared and (name := self._ahead()):
                    return self._shards[name]
                self._changed.wait()
        return None

    def _ahead(self) -> str | None:
        """The next shard that will be read, if there is room beside those that are here."""
        sizes = {name: shard.promised.size for name, shard in self._shards.items()}
        room = _AHEAD * max(sizes.values(), default=0)
        room -= sum(sizes[name] for name, shard in self._shards.items() if shard.here)
        for name in self._order:
            shard = self._shards.get(name)
            if (
                shard is not None
                and not shard.here
                and (not shard.passed or self._keeps)
                and self._needed(name)
            ):
                return name if sizes[name] <= room or self._keeps else None
        return None

    def _needed(self, name: str) -> bool:
        return (
            bool(self._undeclared)
            or name in self._sticky
            or any(counts[name] > 0 for counts in self._open.values())
        )

    def _let_go(self) -> None:
        for name, shard in self._shards.items():
            if shard.here and not (self._keeps or self._pins[name] or self._needed(name)):
                shard.drop()

    def _tick(self, count: int) -> None:
        self.came += count
        if self._closed:
            raise InterruptedError("given up")
