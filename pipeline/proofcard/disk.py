"""Room on a disk, places that can be written, and files that outlive a power cut."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofcard.errors import Stop


def force_to_disk(path: Path) -> None:
    """fsync a file or a folder. A filesystem that cannot fsync a folder has nothing to force."""
    with in_folder(path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL or not path.is_dir():
                raise
        finally:
            os.close(handle)


def write_whole(path: Path, text: str) -> None:
    """Write a file, as UTF-8, so that a reader finds the old one or the new one, never a part of it.

    Its folder has to be there.

    Raises:
        OSError: when it cannot be written; the old one stays, and nothing else.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")  # two commands may write at once
    with in_folder(path):
        try:
            fresh.write_text(text, encoding="utf-8")
            force_to_disk(fresh)
            fresh.rename(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        force_to_disk(path.parent)


@contextmanager
def in_folder(path: Path) -> Iterator[None]:
    """A context in which an OSError that names no file (a write's names none) gets `path` for its name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and type(error.errno) is int:
            error.filename = str(path)
        raise


def free_at(path: Path) -> int:
    """Bytes free on the disk where `path` stands, or will."""
    return shutil.disk_usage(_standing(path)).free


def check_writable(folder: Path) -> None:
    """Whether files can be made in `folder`, which may be yet to come. Leaves nothing behind.

    Raises:
        Stop: naming what stands in the way, and what to do.
    """
    standing = _standing(folder)
    if not standing.is_dir():
        raise Stop(f"{standing} is a file, and {folder} needs a folder there: choose another place")
    if not os.access(standing, os.W_OK | os.X_OK):
        read_only = os.statvfs(standing).f_flag & os.ST_RDONLY
        why = "this filesystem is read-only" if read_only else f"user {os.geteuid()} may not write here"
        raise Stop(f"{standing}: {why}: choose another place for {folder}, or change its permissions")


def _standing(path: Path) -> Path:
    """The part of `path` that exists."""
    standing = path.resolve()
    while not standing.exists():
        standing = standing.parent
    return standing
