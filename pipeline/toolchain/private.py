"""A copy of a toolchain that is this process's own: fresh, complete, checked byte by byte while it is made.

What Python imports comes from here alone. A folder that lies about for the next run, or that somebody else
has made, is only ever read as bytes whose digest is known: byte code, shared objects, `.pth` files or modules
that were put into it are not seen, and nothing can be exchanged between the check and the import.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from pipeline.digest import readable_json
from pipeline.disk import in_folder
from pipeline.errors import explained
from pipeline.toolchain.folder import Toolchain, broken
from pipeline.toolchain.installed import MARKER
from pipeline.toolchain.series import ToolchainError

_LARGEST = 1 << 26  # bytes; ModelOpt's largest file has 0.2 MB
_OLD = 60.0  # seconds: by then a process has locked what it has made


def checked_copy(toolchain: Toolchain) -> Path:
    """The copy's folder, which only this user may enter and which goes when this process ends.

    Raises:
        ToolchainError: when a file is not the toolchain's, or there is no room for the copy.
    """
    try:
        _check_parent(Path(tempfile.gettempdir()))
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=_prefix()))
        _hold(folder)
        for name, digest in toolchain.content.items():
            content = _read(toolchain, name)
            if hashlib.sha256(content).hexdigest() != digest:
                raise broken(toolchain, f"{name} was changed")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with in_folder(target):
                target.write_bytes(content)
        (folder / MARKER).write_text(readable_json(toolchain.describe()), encoding="utf-8")
    except OSError as error:
        raise ToolchainError(
            f"the copy of {toolchain.package} that is imported cannot be made: {explained(error)}"
        ) from None
    return folder


def is_checked_copy(folder: Path, toolchain: Toolchain) -> bool:
    """Whether a folder is such a copy: this user's alone, with the toolchain's bytes."""
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077 or not _ours(folder):
        return False
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in toolchain.content.items()
    )


def _read(toolchain: Toolchain, name: str) -> bytes:
    """A plain file's bytes, whatever stands under that name."""
    path = toolchain.path / name
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise broken(toolchain, f"{name} cannot be read ({error.strerror})") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise broken(toolchain, f"{name} was changed")
        return file.read(_LARGEST)


def _check_parent(parent: Path) -> None:
    """In a folder that everybody may write to, without the sticky bit, anybody may exchange the copy."""
    mode = parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ToolchainError(
            f"everybody may exchange what lies in {parent}, and code would run from there: set TMPDIR to a "
            f"folder of your own, or chmod +t {parent}"
        )


def _prefix() -> str:
    return f"proofcard-modelopt-{os.geteuid()}-"


def _ours(folder: Path) -> bool:
    return folder.name.startswith(_prefix())


def _hold(folder: Path) -> None:
    """Lock it for as long as this process and its forks live, and remove it when this process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # without locks there, copies of killed processes are not swept
        fcntl.flock(handle, fcntl.LOCK_SH)
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a fork may end before us
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def _sweep() -> None:
    """Remove the copies of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
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
