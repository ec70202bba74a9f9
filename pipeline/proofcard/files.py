"""Access to untrusted files: which of them are opened, and how much of them is read.

Every file of a source, a checkpoint, a dataset, a sample set or another's report is opened or listed here.
Only regular files are. A link counts as the file that it leads to if that lies in the same folder, or if both
lie where the Hugging Face cache keeps them: `snapshots/COMMIT/file -> ../../blobs/DIGEST`.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from proofcard.errors import Stop
from proofcard.escaping import on_one_line

_MOST_ENTRIES = 200_000  # in one folder; a larger one is not a model, and takes minutes to list
_TEMPLATES = "additional_chat_templates"  # the one folder inside a model that transformers reads
_READ_WHOLE = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py", ".vocab", ".bpe")
_LARGEST_WHOLE = 128 << 20  # bytes
_NAMED = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


holes: set[tuple[int, int]] = set()
"""Device and inode of files whose bytes are still to come (`checkpoint.streamed`): they would be zeros."""


class Refused(Stop):
    """Something that is never opened: a link out of its folder, a special file, or one that is too large."""


class Unreadable(Stop):
    """A file or folder that exists, but that this process may not read."""


def plain(text: object, longest: int = 200) -> str:
    """A name for a message: unprintable characters are escaped, and a long one is cut."""
    line = on_one_line(str(text)[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def opened(path: Path, root: Path | None, partly: bool = False) -> BinaryIO:
    """A regular file, open for reading. Neither opening nor reading waits for anything but a disk.

    Links are followed inside `root` only; with None, the user named the file and any link is followed.
    `partly`: also one whose bytes are still to come, for whoever knows which of them are here.

    Raises:
        FileNotFoundError: when nothing has this name.
        Refused: for anything but a regular file, and for a link that leaves `root`.
        Unreadable: when the system refuses.
    """
    target = path if root is None and _is_no_link(path) else located(path, root)
    with readable(path):
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(target, flags), "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):  # replaced since it was checked
        file.close()
        raise Refused(f"{plain(path)} is {_kind(target)}, not a file")
    if not partly and (status.st_dev, status.st_ino) in holes:
        file.close()
        raise Refused(
            f"{plain(path)} was not fetched: nothing was expected to read a file of this kind or size"
        )
    return file


def _is_no_link(path: Path) -> bool:
    """Whether it is a regular file itself."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def located(path: Path, root: Path | None) -> Path:
    """The path of a regular file after every link. Raises as `opened`."""
    with readable(path):
        linked = stat.S_ISLNK(os.lstat(path).st_mode)
        target = Path(os.path.realpath(path))
        if root is not None and not _within(target, root):
            where = f"a link to {plain(path.readlink())}" if linked else "reached through a link"
            raise Refused(
                f"{plain(path)} is {where}, outside {plain(root)}: put the file there or remove the link"
            )
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            if not linked:
                raise
            raise Refused(
                f"{plain(path)} is a link to {plain(path.readlink())}, which does not exist"
            ) from None
        if not stat.S_ISREG(mode):
            raise Refused(f"{plain(path)} is {_kind(target)}, not a file")
    return target


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A context in which the system's errors on reading `path` become a sentence.

    A missing file stays a FileNotFoundError.
    """
    try:
        yield
    except NotADirectoryError as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused(f"{plain(path)} is a link that leads back to itself") from None
        raise Unreadable(f"{plain(path)} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise Refused(f"{plain(path)} is not a valid file name: {error}") from None


def exists(path: Path) -> bool:
    """Whether something has this name, even a broken link. Raises Unreadable."""
    try:
        with readable(path):
            os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def listed(folder: Path) -> list[Path]:
    """The top-level files of a folder by name, without hidden ones.

    Raises:
        FileNotFoundError: when the folder does not exist.
        Refused: for anything that is neither a file nor a folder, a link that leaves the folder, a name that
            is not UTF-8, and for more entries than a model has.
        Unreadable: when the system refuses.
    """
    return [path for path in _entries(folder, folder) if not path.is_dir()]


def tree(folder: Path) -> list[Path]:
    """The files below a folder by relative name, without hidden files and folders.

    Links to folders inside are not followed. Raises as `listed`.
    """
    found, left = [], [folder]
    while left:
        for path in _entries(left.pop(), folder):
            if not path.is_dir():
                found.append(path)
            elif not path.is_symlink():
                left.append(path)
        if len(found) + len(left) > _MOST_ENTRIES:
            raise _too_many(folder)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def check_handed(folder: Path) -> None:
    """Check a folder before its path is passed to a library or engine that opens any file in it.

    Raises as `listed`, and Refused for a text or table that is far larger than any model's.
    """
    files = listed(folder)
    if (folder / _TEMPLATES).is_dir():
        files += tree(folder / _TEMPLATES)
    for path in files:
        if path.suffix in _READ_WHOLE and (size := path.stat().st_size) > _LARGEST_WHOLE:
            raise Refused(f"{plain(path)} has {size:,} bytes, but at most {_LARGEST_WHOLE:,} are allowed")


def _entries(folder: Path, root: Path) -> list[Path]:
    """The visible entries of a folder, each a regular file or a folder."""
    found: list[Path] = []
    with readable(folder), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if len(found) == _MOST_ENTRIES:
                raise _too_many(folder)
            path = folder / entry.name
            if any("\ud800" <= c <= "\udfff" for c in entry.name):
                raise Refused(f"the name of {plain(path)} is not UTF-8: rename it")
            if entry.is_symlink() and path.is_dir():
                _check_folder(path, root)
            elif not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                located(path, root)
            found.append(path)
    return sorted(found)


def _check_folder(path: Path, root: Path) -> None:
    """Raise Refused when a link to a folder leads out of `root`."""
    if not _within(Path(os.path.realpath(path)), root):
        raise Refused(
            f"{plain(path)} is a link to {plain(path.readlink())}, outside {plain(root)}: "
            "put the folder there or remove the link"
        )


def _too_many(folder: Path) -> Refused:
    return Refused(f"{plain(folder)} has more than {_MOST_ENTRIES:,} files: use a folder with the model only")


def read_bytes(path: Path, root: Path | None, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises as `opened`, and Refused for a larger one."""
    with opened(path, root) as file, readable(path):
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise Refused(
            f"{plain(path)} has {max(size, len(content)):,} bytes, but at most {limit:,} are allowed"
        )
    return content


def copied(path: Path, root: Path | None, target: Path) -> None:
    """Copy the content of a file to `target`. Raises as `opened`; OSError for problems with `target`."""
    with opened(path, root) as file, target.open("wb") as fresh:
        shutil.copyfileobj(_Reading(file, path), fresh, 1 << 20)


class _Reading:
    """A file whose read errors carry its name, unlike those of the other side of a copy."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        with readable(self._path):
            return self._file.read(size)


def _within(target: Path, root: Path) -> bool:
    """Whether a resolved path is below `root`, or a blob of the cache that contains `root`."""
    root = Path(os.path.realpath(root))
    if target.is_relative_to(root):
        return True
    revision = next((place for place in (root, *root.parents) if place.parent.name == "snapshots"), None)
    return revision is not None and target.parent == revision.parent.parent / "blobs"


def _kind(target: Path) -> str:
    mode = target.stat().st_mode
    return next((name for is_one, name in _NAMED if is_one(mode)), "something else")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, with links resolved, is a folder or is inside it."""
    target = path.resolve()
    return folder.resolve() in (target, *target.parents)
