"""A private copy of a toolchain for this process: new, complete, and checked byte by byte while copied.

Python imports from here only. A folder that is kept for later runs, or that somebody else
has created, is only ever read as bytes with a known digest: byte code, shared objects, `.pth` files or
modules added to it are ignored, and nothing can be replaced between the check and the import.
"""

import hashlib
import os
import stat
from pathlib import Path

from proofcard.digest import readable_json
from proofcard.disk import in_folder
from proofcard.errors import Stop, explained
from proofcard.scratch import is_private, private_folder
from proofcard.toolchain.folder import Toolchain, broken
from proofcard.toolchain.installed import MARKER
from proofcard.toolchain.series import ToolchainError

_LARGEST = 1 << 26  # bytes; ModelOpt's largest file has 0.2 MB


def checked_copy(toolchain: Toolchain) -> Path:
    """The copy's folder, accessible to this user only and removed when this process ends.

    Raises:
        ToolchainError: when a file differs from the toolchain's, or there is no space for the copy.
    """
    try:
        folder = private_folder("modelopt")
        for name, digest in toolchain.content.items():
            content = _read(toolchain, name)
            if hashlib.sha256(content).hexdigest() != digest:
                raise broken(toolchain, f"{name} was changed")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with in_folder(target):
                target.write_bytes(content)
        (folder / MARKER).write_text(readable_json(toolchain.describe()), encoding="utf-8")
    except ToolchainError:
        raise
    except (Stop, OSError) as error:
        raise ToolchainError(
            f"cannot make the copy of {toolchain.package} to import: {explained(error)}"
        ) from None
    return folder


def is_checked_copy(folder: Path, toolchain: Toolchain) -> bool:
    """Whether a folder is such a copy: accessible to this user only, with the toolchain's bytes."""
    return is_private(folder) and all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in toolchain.content.items()
    )


def _read(toolchain: Toolchain, name: str) -> bytes:
    """A regular file's bytes; anything else under that name is refused."""
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
