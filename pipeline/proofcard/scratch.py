"""Private temporary folders of one process, removed when it ends, even if it is killed.

Only this process writes to them, so their content can be imported or trusted without another check.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from proofcard.errors import Stop

_OLD = 60.0  # seconds, after which a process has locked the folder that it created


def private_folder(purpose: str) -> Path:
    """A new folder for temporary files (in TMPDIR); removes those of this user's killed processes first.

    Raises:
        Stop: when other users could replace files in it.
        OSError: when it cannot be created.
    """
    parent = Path(tempfile.gettempdir()).resolve()
    mode = parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise Stop(
            f"other users can replace files in {parent}, from which code would run: set TMPDIR to a "
            f"private folder, or run chmod +t {parent}"
        )
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{purpose}-", dir=parent))
    _hold(folder)
    return folder


def is_private(folder: Path) -> bool:
    """Whether it is such a folder of this process or of one that it was forked from."""
    status = folder.stat()
    ours = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return ours and folder.name.startswith(_prefix())


def _prefix() -> str:
    return f"proofcard-{os.geteuid()}-"


def _hold(folder: Path) -> None:
    """Lock it as long as this process and its forks live, and remove it when this process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # without locks, folders of killed processes are not removed
        fcntl.flock(handle, fcntl.LOCK_SH)
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a fork may end before us
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def _sweep(parent: Path) -> None:
    """Remove the folders of this user's processes that were killed."""
    for folder in parent.glob(f"{_prefix()}*"):
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = os.fstat(handle)
            if status.st_uid == os.geteuid() and abs(time.time() - status.st_mtime) > _OLD:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, or no locks on this filesystem
            pass
        finally:
            os.close(handle)
