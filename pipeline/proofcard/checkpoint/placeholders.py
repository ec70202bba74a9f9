"""A file of the hub at its full length, before its bytes are downloaded and after they are dropped.

It begins as a header and a hole; bytes are written at their offsets and dropped when no level needs them,
except for the header and small tensors. Length and header are never others: any level may look at them at any
time. A record in another folder counts the bytes that have arrived.
"""

import hashlib
import json
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from proofcard.checkpoint.reading import TensorFileError
from proofcard.checkpoint.repository import HubFile, Repository
from proofcard.checkpoint.tensors import LONGEST_HEADER, Tensor, read_header
from proofcard.disk import punched, write_whole
from proofcard.errors import Stop
from proofcard.files import plain

SMALL = 4096  # bytes of a tensor that stays: scales of whole tensors, biases of a cache, counters
_FIRST = 100_000  # bytes requested at once: the headers of most shards
_PIECE = 1 << 22
_NOTED = 64 << 20  # bytes after which the record is brought up to date


@dataclass
class Placeholder:
    """One file. `came` counts the bytes of it that are in their places, from its beginning."""

    name: str
    path: Path
    record: Path
    promised: HubFile
    tensors: list[Tensor] = field(default_factory=list)  # by place
    came: int = 0
    sha256: str | None = None
    inside: dict[str, str] = field(default_factory=dict)  # hex sha256 by tensor, once all has come
    header: bytes = b""

    @property
    def here(self) -> bool:
        """Whether every byte is in its place."""
        return self.came == self.promised.size and self.sha256 is not None

    @property
    def passed(self) -> bool:
        """Whether its bytes have been here, whole and right."""
        return self.sha256 is not None

    def identity(self) -> tuple[int, int]:
        """Device and inode of its file, which stays the same one."""
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def tensor_at(self, place: int) -> Tensor | None:
        """The tensor that holds the byte at this place."""
        at = bisect_right(self.tensors, place, key=lambda tensor: tensor.start) - 1
        return (
            self.tensors[at] if at >= 0 and place < self.tensors[at].start + self.tensors[at].size else None
        )

    def create(self, repository: Repository) -> None:
        """Create it with its length and header, or continue from an earlier run.

        Raises:
            Stop: when the hub does not send a valid header.
            OSError: when the disk is full.
        """
        known = self._recorded()
        if known is None or not self.path.exists() or self.path.stat().st_size != self.promised.size:
            known = {"came": 0, "sha256": None, "inside": {}}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self.record.unlink(missing_ok=True)
            if self.name.endswith(".safetensors"):
                self.header = _header(repository, self.name, self.promised.size)
            with self.path.open("wb") as file:
                file.write(self.header)
                file.truncate(self.promised.size)
        if self.name.endswith(".safetensors"):
            try:
                self.tensors = sorted(read_header(self.path).values(), key=lambda tensor: tensor.start)
            except TensorFileError:
                self.tensors = []  # readers of this folder report it
        self.came, self.inside = known["came"], known["inside"]
        # After a power cut bytes may be missing that the record counts: what is here is digested again.
        self.sha256 = None if self.came else known["sha256"]

    def bring(self, repository: Repository, tick: Callable[[int], None]) -> None:
        """Every byte into its place, from the hub where it is not here.

        Raises:
            Stop: when the hub refuses, cannot be reached, or sends other bytes than it has promised.
            OSError: when the disk is full.
        """
        self.sha256 = None
        header = self.header or self._head()
        with self.path.open("r+b") as file:
            sink = _Sink(self, file, tick, header)
            try:
                sink.take_up(self.came)
                repository.stream(self.name, sink)
            finally:
                self.came = sink.tell()
                file.flush()
                self.note()
            wrong = sink.wrong() or (sink.another_header and "another header than before")
        if wrong:
            self.came = 0
            self._empty([(0, len(header))])
            raise Stop(
                f"{repository}: {plain(self.name)} came with {wrong}, not what the hub promised: "
                "the same command downloads it again"
            )
        self.sha256, self.inside = sink.whole.hexdigest(), sink.inside
        self.note()

    def drop(self) -> None:
        """Free the disk space of its bytes, except for the header and the small tensors."""
        small = [(each.start, each.start + each.size) for each in self.tensors if each.size <= SMALL]
        self.came = 0
        self._empty([(0, self._header_size()), *small])

    def _empty(self, kept: list[tuple[int, int]]) -> None:
        """Make it a hole but for the bytes in these ranges. After a kill in between it comes again."""
        self.record.unlink(missing_ok=True)
        ends = [0, *(end for _, end in kept)]
        starts = [*(start for start, _ in kept), self.promised.size]
        with self.path.open("r+b") as file:
            if not all(
                punched(file.fileno(), end, start - end) for end, start in zip(ends, starts, strict=True)
            ):
                self._cut(file, kept)
        self.note()

    def _cut(self, file: BinaryIO, kept: list[tuple[int, int]]) -> None:
        """`_empty` where nothing can be freed inside a file: for a moment it is shorter."""
        contents = []
        for start, end in kept:
            file.seek(start)
            contents.append(file.read(end - start))
        file.truncate(0)
        file.truncate(self.promised.size)
        for (start, _), content in zip(kept, contents, strict=True):
            file.seek(start)
            file.write(content)

    def note(self) -> None:
        """Write down how far it has come."""
        record = {"came": self.came, "sha256": self.sha256, "inside": self.inside}
        write_whole(self.record, json.dumps(record))

    def _recorded(self) -> dict[str, Any] | None:
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            whole = 0 <= record["came"] <= self.promised.size and isinstance(record["inside"], dict)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if whole and "sha256" in record else None

    def _header_size(self) -> int:
        return self.tensors[0].start if self.tensors else 0

    def _head(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(self._header_size())


def _header(repository: Repository, name: str, size: int) -> bytes:
    """The first bytes of a shard, to the end of its header; raw, whatever they are where they are none."""
    content = repository.span(name, 0, min(size, _FIRST) - 1)
    if len(content) < 8:
        return content
    end = 8 + int(struct.unpack("<Q", content[:8])[0])
    if end > min(size, LONGEST_HEADER + 8):
        return content
    if end > len(content):
        content += repository.span(name, len(content), end - 1)
    return content[:end]


class _Sink:
    """The bytes of a file on their way to their places, digested as they come. The header is there."""

    def __init__(self, of: Placeholder, file: BinaryIO, tick: Callable[[int], None], header: bytes) -> None:
        self.size = of.promised.size
        self._of, self._file, self._tick, self._header = of, file, tick, header
        self._begin()

    def _begin(self) -> None:
        self._place, self._noted = 0, 0
        self.another_header = False
        self.whole = hashlib.sha256()
        self.blob = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        self.inside: dict[str, str] = {}
        self._next, self._current = 0, hashlib.sha256()
        self._file.seek(0)

    def take_up(self, came: int) -> None:
        """What is in its place already, read again for the digests."""
        while self._place < came and (content := self._file.read(min(_PIECE, came - self._place))):
            self._digest(content)

    def tell(self) -> int:
        return self._place

    def write(self, data: bytes) -> int:
        if self._place + len(data) > self.size:
            raise Stop(
                f"{plain(self._of.name)} comes with more than the {self.size:,} bytes that the hub promised: "
                "try again later"
            )
        for first in range(0, len(data), _PIECE):
            piece = data[first : first + _PIECE]
            self._put(piece)
            self._digest(piece)
            self._tick(len(piece))
        if self._place - self._noted >= _NOTED:
            self._file.flush()
            self._of.came, self._noted = self._place, self._place
            self._of.note()
        return len(data)

    def _put(self, piece: bytes) -> None:
        header = self._header[self._place : self._place + len(piece)]
        self.another_header |= piece[: len(header)] != header
        self._file.seek(self._place + len(header))
        self._file.write(piece[len(header) :])

    def seek(self, place: int) -> int:
        if place:
            raise OSError("a download begins at 0 or resumes where it is")
        self._begin()
        return 0

    def truncate(self) -> int:
        return self._place

    def wrong(self) -> str | None:
        """What does not fit to what was promised, once all has come."""
        promised = self._of.promised
        if self._place != self.size:
            return f"{self._place:,} bytes instead of {self.size:,}"
        digest = self.whole.hexdigest() if promised.sha256 else self.blob.hexdigest()
        return None if digest == (promised.sha256 or promised.blob) else f"digest {digest}"

    def _digest(self, data: bytes) -> None:
        self.whole.update(data)
        if self._of.promised.sha256 is None:
            self.blob.update(data)
        view, tensors = memoryview(data), self._of.tensors
        at = 0
        while self._next < len(tensors):
            tensor = tensors[self._next]
            end = tensor.start + tensor.size
            at = max(at, tensor.start - self._place)
            if at > len(data):
                break
            part = view[at : max(at, end - self._place)]
            self._current.update(part)
            at += len(part)
            if self._place + at < end:
                break
            self.inside[tensor.name] = self._current.hexdigest()
            self._next, self._current = self._next + 1, hashlib.sha256()
        self._place += len(data)
