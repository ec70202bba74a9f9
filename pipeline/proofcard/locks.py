"""File locks that are released when their process ends.

The only locking mechanism of this program: for stages, downloads, toolchains, the tracking store, reports.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from proofcard.disk import in_folder
from proofcard.errors import Stop
from proofcard.progress import console, shown

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
_GRACE = 1.0  # seconds during which another process may only be checking


class Busy(Stop):
    """Another process holds the lock."""


@contextmanager
def alone(path: Path, work: str, *, waits: bool) -> Iterator[None]:
    """Hold the lock on the file `path`, which is created if missing; its folder must exist.

    `work` describes what the lock is for, as in "writing runs/x". With `waits`, waits for other holders, and
    prints a line about it.

    Raises:
        Busy: when another process has the lock, and `waits` is false; says which one.
        Stop: when the filesystem has no locks, or something else has that name.
        OSError: when the file cannot be opened.
    """
    handle = _locked(path, work, fcntl.LOCK_EX, waits)
    try:
        _sign(handle)
        yield
    finally:
        os.close(handle)


def check_free(path: Path, work: str) -> None:
    """Check whether a lock is free. Leaves nothing behind, and needs no write permission.

    Raises:
        Busy: when another process has it; says which one.
        Stop: when the filesystem has no locks.
    """
    if path.exists():
        os.close(_locked(path, work, fcntl.LOCK_SH, waits=False))
        return
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise _none_here(folder, error) from None
    finally:
        os.close(handle)


def _locked(path: Path, work: str, kind: int, waits: bool) -> int:
    """The open file, with the lock on it."""
    while True:
        handle = _opened(path)
        try:
            if not _try(handle, kind, path):
                holder = _holder(handle)
                if not waits:
                    raise Busy(f"{holder} is {work}: wait until it is done, or choose another place")
                console.print(f"{holder} is {work}: waiting for it", markup=False, soft_wrap=True)
                _take(handle, kind, path)
            if _is_still(path, handle):  # it may have been deleted and created again in the meantime
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _opened(path: Path) -> int:
    """Open the file; read permission is enough for a lock, also on another user's file."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not path.exists():
            raise
        handle = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Stop(f"{shown(path)} is not a regular file, as a lock must be: remove it")
    return handle


def _try(handle: int, kind: int, path: Path) -> bool:
    """Whether the lock became free at once or within a moment."""
    deadline = time.monotonic() + _GRACE
    while True:
        try:
            _take(handle, kind | fcntl.LOCK_NB, path)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)


def _take(handle: int, kind: int, path: Path) -> None:
    """flock; on a filesystem without it, the older record lock."""
    try:
        fcntl.flock(handle, kind)
        return
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        with in_folder(path):
            fcntl.lockf(handle, kind)
    except PermissionError:
        raise BlockingIOError from None  # POSIX allows either error for a lock that is held
    except OSError as error:
        if error.errno not in (*_NO_LOCKS, errno.EBADF):
            raise
        raise _none_here(path, error) from None


def _none_here(path: Path, error: OSError) -> Stop:
    name = errno.errorcode[error.errno or 0]
    return Stop(
        f"{path}: the filesystem here{_kind_of(path)} has no file locks ({name}), and "
        "without them two commands could overwrite each other's files: mount it with locks (Lustre: -o "
        "flock; NFS: start its lock service), or choose a place on another filesystem"
    )


def _kind_of(path: Path) -> str:
    """The filesystem's type and mount point, if known."""
    try:
        place = path.resolve()
        mounts = [m for m in psutil.disk_partitions(all=True) if place.is_relative_to(m.mountpoint)]
    except (OSError, RuntimeError):
        return ""
    if not mounts:
        return ""
    mount = max(mounts, key=lambda each: len(each.mountpoint))
    return f" ({mount.fstype} on {mount.mountpoint})"


def _sign(handle: int) -> None:
    """Write down the holder for other processes; the lock works without it."""
    try:
        note = f"process {os.getpid()} on {socket.gethostname()}".encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, note, 0)
    except OSError:
        pass


def _holder(handle: int) -> str:
    """The process that wrote itself down as the holder."""
    try:
        note = os.pread(handle, 200, 0).decode("ascii", "replace")
    except OSError:
        note = ""
    return note if note.startswith("process ") and note.isprintable() else "another process"


def _is_still(path: Path, handle: int) -> bool:
    try:
        there, ours = path.lstat(), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
