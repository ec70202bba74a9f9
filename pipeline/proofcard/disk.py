"""Free disk space, writable folders, and files that survive a power cut."""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofcard.errors import Stop


def force_to_disk(path: Path) -> None:
    """fsync a file or a folder; a filesystem that cannot fsync folders does not need it."""
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
    """Write a file as UTF-8 atomically: a reader sees the old or the new one, never a part of it.

    Its folder must exist.

    Raises:
        OSError: when it cannot be written; the old one is kept.
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
    """A context in which an OSError without a file name, such as a write's, gets the name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None and type(error.errno) is int:
            error.filename = str(path)
        raise


def punched(handle: int, start: int, size: int) -> bool:
    """Free the disk space of bytes of an open file, which are zeros then; its length stays (fallocate(2)).

    False where the system or the filesystem cannot do that. Raises OSError when it fails.
    """
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:
        return False
    keep_size, punch_hole = 1, 2
    if not size or not fallocate(handle, keep_size | punch_hole, ctypes.c_int64(start), ctypes.c_int64(size)):
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


def free_at(path: Path) -> int:
    """Free bytes on the disk of `path`, which may not exist yet."""
    return shutil.disk_usage(_existing_parent(path)).free


def check_writable(folder: Path) -> None:
    """Check that files can be created in `folder`, which may not exist yet. Leaves nothing behind.

    Raises:
        Stop: saying what prevents it, and what to do.
    """
    existing = _existing_parent(folder)
    if not existing.is_dir():
        raise Stop(f"{existing} is a file, but {folder} needs a folder there: choose another place")
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        why = "this filesystem is read-only" if read_only else f"user {os.geteuid()} has no write permission"
        raise Stop(f"{existing}: {why}: choose another place for {folder}, or change its permissions")


def _existing_parent(path: Path) -> Path:
    """The nearest existing parent of `path`, or itself."""
    existing = path.resolve()
    while not existing.exists():
        existing = existing.parent
    return existing
