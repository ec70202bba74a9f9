"""Bytes of tensor files, read and not mapped.

A file that is cut or changed while it is mapped kills the process that reads it; here it is an error.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proofcard.errors import Stop
from proofcard.files import holes, opened, plain, readable

_OPEN = 64  # files at once
_PIECE = 1 << 24  # bytes copied at a time where they cannot be read into their place
_AGAIN = "run again when nothing writes to it"

Seen = tuple[int, int, int, int]
"""Device, inode, size in bytes and time of the last change in nanoseconds: another file, another value."""


LEADS = "weights"
"""The level whose reads decide which shard comes next, where several levels read the same ones."""


class Incoming(Protocol):
    """A folder whose files come and go while they are read (`checkpoint.streamed`)."""

    def read(self, file: str, start: int, size: int, name: str) -> NDArray[np.uint8]:
        """As `read` below."""

    def digests(self, file: str) -> tuple[str, dict[str, str]]:
        """Hex sha256 of a file and of each of its tensors."""

    def comes(self, file: str) -> bool:
        """Whether the file is one of those."""

    def give_up(self) -> None:
        """Wake all waiting readers."""


incoming: dict[Path, Incoming] = {}
"""The folders of which that is true, for as long as it is."""

_reader = threading.local()


def forget() -> None:
    """Close the files that are kept open: others may have their names now."""
    _file.cache_clear()


def give_up() -> None:
    """After an interrupt: threads that wait for a file get a `Lost`, so that they can be joined."""
    for folder in list(incoming.values()):
        folder.give_up()


@contextmanager
def patient() -> Iterator[None]:
    """A context in which this thread takes shards as they come for the sake of the level that `LEADS`."""
    _reader.patient = True
    try:
        yield
    finally:
        _reader.patient = False


def is_patient() -> bool:
    """Whether this thread is inside `patient`."""
    return getattr(_reader, "patient", False)


def comes_in(path: Path, root: Path) -> tuple[Incoming, str] | None:
    """The incoming folder `root` and the name of the file in it, if it is one whose bytes come and go."""
    folder = incoming.get(root)
    name = path.relative_to(root).as_posix() if folder is not None else ""
    return (folder, name) if folder is not None and folder.comes(name) else None


class Lost(Exception):
    """An incoming file does not come: nothing more can be read of its folder. The message says why."""


class TensorFileError(Stop):
    """A safetensors file whose header does not describe its bytes, or that has changed since it was read."""


def read(
    path: Path, seen: Seen | None, start: int, size: int, name: str, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """`size` bytes from `start`, in `into` or in memory of their own; `name` is the tensor's, for messages.

    `seen` is what the file was when its header was read, None where that is not known.

    Raises:
        TensorFileError: when the file is gone, or was cut or changed since then.
        Refused, Unreadable: as `files.opened`.
    """
    if (folder := incoming.get(path.parent)) is not None:
        content = folder.read(path.name, start, size, name)
        if into is None:
            return content
        into[:] = content
        return into
    if seen is not None and seen[:2] in holes:
        raise TensorFileError(f"{plain(path.name)} is still downloading, and was opened under another path")
    return from_disk(path, seen, start, size, name, into)


def from_disk(
    path: Path, seen: Seen | None, start: int, size: int, name: str, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """As `read`, of a file that is here."""
    content = np.empty(size, np.uint8) if into is None else into
    if not size:
        return content
    file = _file(path, seen)  # kept while it is read: the cache may let it go
    done = 0
    with readable(path):
        while done < size and (count := _read_at(file.handle, content[done:], start + done)):
            done += count
        if done < size:
            raise TensorFileError(
                f"{plain(path.name)} was cut while it was read: {plain(name)} ends too early"
            )
        if seen is not None and (now := seen_of(file.handle)) != seen:
            change = "cut" if now[2] < seen[2] else "changed"
            raise TensorFileError(f"{plain(path.name)} was {change} while it was read: {_AGAIN}")
    return content


def _read_at(handle: int, into: NDArray[np.uint8], place: int) -> int:
    """Fill what can be read at once; returns how many bytes that is."""
    if hasattr(os, "preadv"):
        return os.preadv(handle, [into.data], place)
    content = os.pread(handle, min(into.size, _PIECE), place)  # older macOS
    into[: len(content)] = np.frombuffer(content, np.uint8)
    return len(content)


def seen_of(handle: int) -> Seen:
    """What identifies the content of an open file."""
    status = os.fstat(handle)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _File:
    """An open file that is closed with its last reader, in whatever thread that is."""

    def __init__(self, path: Path) -> None:
        with opened(path, path.parent, partly=True) as file:
            self.handle = os.dup(file.fileno())

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


@lru_cache(maxsize=_OPEN)
def _file(path: Path, seen: Seen | None) -> _File:
    """The open file. Raises TensorFileError when it is gone or another one."""
    try:
        file = _File(path)
    except FileNotFoundError:
        raise TensorFileError(f"{plain(path.name)} is gone from {plain(path.parent)}") from None
    if seen is not None and seen_of(file.handle) != seen:
        raise TensorFileError(f"{plain(path.name)} was changed since its header was read: {_AGAIN}")
    return file
