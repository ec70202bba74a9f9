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


def free_at(path: Path) -> int:
    """Bytes free on the disk where `path` stands, or will."""
    standing = path.resolve()
    while not standing.exists():
        standing = standing.parent
    return shutil.disk_usage(standing).free


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; every library wraps the errno in its own way."""
    return any(said in str(error) for said in ("No space left on device", "Disk quota exceeded"))
