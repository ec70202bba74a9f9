"""Exceptions with messages for users, and other errors turned into one line."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Stop(Exception):
    """The command fails; the message says in plain words what is wrong and what to do about it."""


class Usage(Stop):
    """The command or its configuration is wrong, and nothing was started."""


def one_line(error: BaseException, **places: Path) -> str:
    """An error's message on one line, each named folder's path replaced by its name."""
    text = str(error)
    for name, path in sorted(places.items(), key=lambda place: -len(str(place[1]))):
        text = text.replace(f"{path}/", "").replace(str(path), name)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def before_work() -> Iterator[None]:
    """A context before any work has started, in which every failure is a `Usage`.

    Raises:
        Usage: instead of any other Stop, and instead of an OSError.
    """
    try:
        yield
    except Usage:
        raise
    except Stop as stop:
        raise Usage(str(stop)) from None
    except OSError as error:
        raise Usage(explained(error)) from None


def explained(error: BaseException) -> str:
    """An OSError, possibly wrapped, as `path: what is wrong: what to do`."""
    cause = system_error(error)
    if cause is None or cause.errno not in _EXPLAINED:
        return one_line(error)[:500]
    what, advice = _EXPLAINED[cause.errno]
    advice = _chooser(cause) or advice
    names = [str(name) for name in (cause.filename, cause.filename2) if name is not None]
    return f"{' -> '.join(names)}: {what}: {advice}" if names else f"{what}: {advice}"


def _chooser(error: OSError) -> str | None:
    """What to do about a location that an environment variable selects, unless it is only full."""
    path = Path(str(error.filename or ""))
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    with suppress(RuntimeError, OSError):
        if error.filename is not None and path.is_relative_to(Path(home).expanduser()):
            return "set HF_HOME to another place"
        if error.filename is not None and path.is_relative_to(tempfile.gettempdir()):
            return "free some space, or set TMPDIR to another place" if is_full(error) else None
    return None


def system_error(error: BaseException) -> OSError | None:
    """The OSError that `error` is or was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, OSError) and current.errno is not None and type(current.errno) is int:
            return current
        seen.add(id(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return None


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full; every library wraps it differently."""
    cause = system_error(error)
    if cause is not None and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error) for text in ("No space left on device", "Disk quota exceeded"))


def may_pass(error: BaseException) -> bool:
    """Whether the same command may succeed later without a change.

    A wrong input fails again; an interrupt, a full disk or an unavailable network filesystem may not.
    """
    if isinstance(error, Stop):
        return False
    cause = system_error(error)
    return (
        isinstance(error, KeyboardInterrupt | MemoryError)
        or is_full(error)
        or (cause is not None and cause.errno in _PASSING)
    )


_PASSING = (
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK,
)  # fmt: skip
_EXPLAINED = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is exceeded", "free some space, or ask for a larger quota"),
    errno.EROFS: ("this filesystem is read-only", "choose a writable place"),
    errno.EACCES: ("permission denied", "change its permissions, or choose another place"),
    errno.EPERM: ("operation not permitted", "change its permissions, or choose another place"),
    errno.ENOENT: ("it does not exist", "check the path, or whether it was removed"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another place"),
    errno.EISDIR: ("this is a folder, but a file is needed", "choose another name"),
    errno.EEXIST: ("it already exists", "move it away, or choose another name"),
    errno.ENOTEMPTY: ("the folder is not empty", "move it away, or choose another place"),
    errno.ENAMETOOLONG: ("the name is too long for this filesystem", "choose a shorter path"),
    errno.ELOOP: ("symbolic links form a loop, or may not be followed here", "remove the link"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n 4096)"),
    errno.ENFILE: ("the system has too many open files", "stop other programs, or raise fs.file-max"),
    errno.EFBIG: ("the file is too large", "raise ulimit -f, or choose another filesystem"),
    errno.EIO: ("the disk reports an input/output error", "check the kernel log (dmesg)"),
    errno.ESTALE: ("the network filesystem has lost this file", "mount it again"),
    errno.ENOMEM: ("not enough memory", "stop other programs, or use a larger machine"),
    errno.ENOLCK: ("this filesystem has no file locks", "choose a place on another filesystem"),
    errno.ENOSYS: ("this filesystem does not support the operation", "choose a place on another filesystem"),
    errno.EOPNOTSUPP: ("this filesystem does not support it", "choose a place on another filesystem"),
    errno.ETXTBSY: ("the file is being executed", "stop the program that runs it"),
    errno.EXDEV: ("it would have to move to another filesystem", "choose a place on one filesystem"),
    errno.EINVAL: ("the filesystem refuses this name or operation", "choose another place"),
    errno.EILSEQ: ("the filesystem refuses this name", "choose a name of ASCII letters"),
}
"""By errno: what is wrong, and what to do."""
