"""Room on a disk, and making sure that what was written outlives a power cut."""

import os
import shutil
from pathlib import Path


def force_to_disk(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str) -> None:
    """Write a file, as UTF-8, so that a reader finds the old one or the new one, never a part of it.

    Its folder has to be there.

    Raises:
        OSError: when it cannot be written; the old one stays, and nothing else.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")  # two commands may write at once
    try:
        fresh.write_text(text, encoding="utf-8")
        force_to_disk(fresh)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    force_to_disk(path.parent)


def free_at(path: Path) -> int:
    """Bytes free on the disk where `path` stands, or will."""
    standing = path.resolve()
    while not standing.exists():
        standing = standing.parent
    return shutil.disk_usage(standing).free


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; every library wraps the errno in its own way."""
    return any(said in str(error) for said in ("No space left on device", "Disk quota exceeded"))
