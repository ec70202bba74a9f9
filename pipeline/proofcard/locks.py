"""One process at a time: a lock on a file, which ends with the process that holds it.

The only way in which this program locks anything: stages, downloads, toolchains, the tracking store, reports.
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
_GRACE = 1.0  # seconds in which another process may only be looking


class Busy(Stop):
    """Another process holds the lock."""


@contextmanager
def alone(path: Path, work: str, *, waits: bool) -> Iterator[None]:
    """Hold the lock of the file `path`, made where it is missing; its folder has to be there.

    `work` is what the lock is about, as in "writing runs/x". With `waits` the others' end is waited for, and
    a line says so.

    Raises:
        Busy: when another process has the lock, and `waits` is false; says which one.
        Stop: when the filesystem has no locks, or something else stands under that name.
        OSError: when the file cannot be opened.
    """
    handle = _locked(path, work, fcntl.LOCK_EX, waits)
    try:
        _sign(handle)
        yield
    finally:
        os.close(handle)


def check_free(path: Path, work: str) -> None:
    """Look whether a lock could be had now. Leaves nothing behind, and needs no right to write.

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
                    raise Busy(f"{holder} is {work}: wait until it has ended, or choose another place")
                console.print(f"{holder} is {work}: waiting for it", markup=False, soft_wrap=True)
                _take(handle, kind, path)
            if _is_still(path, handle):  # it may have been removed, and another made, while this one waited
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _opened(path: Path) -> int:
    """A file of another user that may be read is enough: a lock needs no more."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not path.exists():
            raise
        handle = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Stop(f"{shown(path)} is not a plain file, and a lock has to be one: remove it")
    return handle


def _try(handle: int, kind: int, path: Path) -> bool:
    """Whether the lock was free, at once or within a moment."""
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
    """flock; where a filesystem has none, the older record lock, which some of those have."""
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
        raise BlockingIOError from None  # POSIX allows either for a lock that is taken
    except OSError as error:
        if error.errno not in (*_NO_LOCKS, errno.EBADF):
            raise
        raise _none_here(path, error) from None


def _none_here(path: Path, error: OSError) -> Stop:
    name = errno.errorcode[error.errno or 0]
    return Stop(
        f"{path}: the filesystem here{_kind_of(path)} gives no file locks ({name}), and "
        "without one two commands would write over each other: mount it with locks (Lustre: -o flock; "
        "NFS: start its lock service), or choose a place on another filesystem"
    )


def _kind_of(path: Path) -> str:
    """The filesystem's type and where it is mounted, where the system says so."""
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
    """Leave a note for whoever has to wait; a lock holds without one."""
    try:
        note = f"process {os.getpid()} on {socket.gethostname()}".encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, note, 0)
    except OSError:
        pass


def _holder(handle: int) -> str:
    """Who has signed."""
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
