"""Fresh folders for one process: nobody else may enter them, and they go when it ends, killed or not.

What lies in one is written by this process alone, so it may be imported or believed without another look.
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

_OLD = 60.0  # seconds: by then a process has locked what it has made


def private_folder(purpose: str) -> Path:
    """An empty folder among the temporary files (TMPDIR); those of this user's killed processes go first.

    Raises:
        Stop: when others could exchange what lies there.
        OSError: when it cannot be made.
    """
    parent = Path(tempfile.gettempdir()).resolve()
    mode = parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise Stop(
            f"everybody may exchange what lies in {parent}, and code would run from there: set TMPDIR to a "
            f"folder of your own, or chmod +t {parent}"
        )
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{purpose}-", dir=parent))
    _hold(folder)
    return folder


def is_private(folder: Path) -> bool:
    """Whether it is such a folder of this user's, of this process or of one that it was forked from."""
    status = folder.stat()
    ours = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return ours and folder.name.startswith(_prefix())


def _prefix() -> str:
    return f"proofcard-{os.geteuid()}-"


def _hold(folder: Path) -> None:
    """Lock it for as long as this process and its forks live, and remove it when this process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # without locks there, folders of killed processes are not swept
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
        except OSError:  # in use, or no locks there
            pass
        finally:
            os.close(handle)
