"""Bytes of tensor files, read and not mapped.

A file that is cut or changed while it is mapped kills the process that reads it; here it is an error.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proofcard.errors import Stop
from proofcard.files import opened, plain, readable

_OPEN = 64  # files at once
_AGAIN = "run again when nothing writes to it"

Seen = tuple[int, int, int, int]
"""Device, inode, size in bytes and time of the last change in nanoseconds: another file, another value."""


class TensorFileError(Stop):
    """A safetensors file whose header does not describe its bytes, or that has changed since it was read."""


def read(path: Path, seen: Seen | None, start: int, size: int, name: str) -> NDArray[np.uint8]:
    """`size` bytes from `start`, in memory of their own; `name` is the tensor's, for messages.

    `seen` is what the file was when its header was read, None where that is not known.

    Raises:
        TensorFileError: when the file is gone, or was cut or changed since then.
        Refused, Unreadable: as `files.opened`.
    """
    content = np.empty(size, np.uint8)
    if not size:
        return content
    file = _file(path, seen)  # kept while it is read: the cache may let it go
    done = 0
    with readable(path):
        while done < size and (count := os.preadv(file.handle, [content[done:].data], start + done)):
            done += count
        if done < size:
            raise TensorFileError(
                f"{plain(path.name)} was cut while it was read: {plain(name)} ends too early"
            )
        if seen is not None and (now := seen_of(file.handle)) != seen:
            change = "cut" if now[2] < seen[2] else "changed"
            raise TensorFileError(f"{plain(path.name)} was {change} while it was read: {_AGAIN}")
    return content


def seen_of(handle: int) -> Seen:
    """What identifies the content of an open file, as far as the system tells."""
    status = os.fstat(handle)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _File:
    """An open file that is closed with its last reader, in whatever thread that is."""

    def __init__(self, path: Path) -> None:
        with opened(path, path.parent) as file:
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
