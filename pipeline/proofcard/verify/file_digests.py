"""Digests of sealed files, taken piece by piece behind the level that compares their tensors.

What was just compared is still in memory, so a checkpoint larger than that comes from the disk once, and
hashing is work for whichever thread is free. The outcome is that of hashing each file by itself: a file that
another one replaced, or that changed meanwhile, is left to whoever asks to read it again.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from proofcard.checkpoint import reading
from proofcard.checkpoint.reading import Seen
from proofcard.checkpoint.tensors import Tensor
from proofcard.errors import Stop
from proofcard.files import opened
from proofcard.verify.memory import Memory

_PIECE = 1 << 20  # bytes that are hashed while they are in the processor's cache
_TURN = 256 << 20  # bytes that one call hashes: hashing keeps up with the comparison, and progress is shown
_AHEAD = 4 << 30  # bytes hashed before anything is compared: still in memory when it is

_memory = Memory()


class FileDigests:
    """sha256 of the files directly below `folder`, each of which is read by one thread at a time."""

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        """`sizes` in bytes by file name, as sealed: a file of another size is not hashed."""
        self._folder, self._sizes = folder, sizes
        self._named: dict[str, _Running] = {}
        self._known: dict[Seen, _Running | None] = {}  # by what tells files apart faster than their paths
        self._starting, self._comparing = threading.Lock(), threading.Event()

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Hash in a thread of its own until the first tensor was compared; few threads have work before."""
        thread = threading.Thread(target=self._begin)
        thread.start()
        try:
            yield
        finally:
            self._comparing.set()
            thread.join()

    def _begin(self) -> None:
        left = _AHEAD
        for name in sorted(name for name in self._sizes if name.endswith(".safetensors")):
            try:
                with opened(self._folder / name, self._folder) as file:
                    seen = reading.seen_of(file.fileno())
            except (Stop, OSError):  # left to `finished`
                continue
            self._start(self._folder / name, seen)
            if (running := self._known[seen]) is None:
                continue
            running.wanted = max(running.wanted, min(left, seen[2]))
            while not self._comparing.is_set() and running.is_behind():
                running.advance(_PIECE)
            left -= seen[2]
            if left <= 0 or self._comparing.is_set():
                return

    def follow(self, compared: Iterable[Tensor]) -> None:
        """Hash up to the end of tensors that were compared, or some of what other calls have left behind.

        Those of other folders do not count.

        Raises nothing: a file that cannot be read is left to `finished`.
        """
        self._comparing.set()
        for tensor in compared:
            if tensor.seen is None:
                continue
            if tensor.seen not in self._known:
                self._start(tensor.path, tensor.seen)
            if (running := self._known[tensor.seen]) is not None:
                running.wanted = max(running.wanted, tensor.start + tensor.size)
        for running in list(self._named.values()):
            if running.is_behind() and running.advance():
                return

    def finished(self, name: str, tick: Callable[[int], None]) -> str | None:
        """Hex sha256 of a file, the rest of it read now; None if it has to be read from the beginning.

        `tick` is called with byte counts, and may raise to give up.
        """
        self._comparing.set()
        running = self._named.get(name)
        return None if running is None else running.finish(self._folder, tick)

    def _start(self, path: Path, seen: Seen) -> None:
        """Begin with a file, unless it is not one of those: the source's may have the same names."""
        with self._starting:
            if path.parent == self._folder and self._sizes.get(path.name) == seen[2]:
                running = self._named.setdefault(path.name, _Running(path, seen))
                self._known[seen] = running if running.seen == seen else None
            else:
                self._known.setdefault(seen, None)


class _Running:
    """One file: its first `place` bytes are hashed, and `wanted` should be."""

    def __init__(self, path: Path, seen: Seen) -> None:
        self.wanted = 0
        self._path, self.seen = path, seen
        self._place, self._failed = 0, False
        self._sha256, self._turn = hashlib.sha256(), threading.Lock()

    def is_behind(self) -> bool:
        """Whether there is something to hash."""
        return self._place < self.wanted and not self._failed

    def advance(self, most: int = _TURN) -> bool:
        """Hash up to `most` bytes of what is wanted; False where another thread is at it."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            until = min(self.wanted, self._place + most)
            while self._place < until and not self._failed:
                self._piece(until)
            return True
        finally:
            self._turn.release()

    def finish(self, folder: Path, tick: Callable[[int], None]) -> str | None:
        """As `FileDigests.finished`."""
        with self._turn:
            tick(self._place)
            while self._place < self.seen[2] and not self._failed:
                tick(self._piece(self.seen[2]))
        try:
            with opened(self._path, folder) as file:
                same = reading.seen_of(file.fileno()) == self.seen
        except (Stop, OSError):
            return None
        return self._sha256.hexdigest() if same and not self._failed else None

    def _piece(self, until: int) -> int:
        """Hash the next bytes before `until`; returns how many."""
        size = min(_PIECE, until - self._place)
        try:
            piece = reading.read(
                self._path, self.seen, self._place, size, self._path.name, _memory.of("piece", size)
            )
        except (Stop, OSError):
            self._failed = True
            return 0
        self._sha256.update(piece.data)
        self._place += size
        return size
