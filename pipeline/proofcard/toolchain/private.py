"""A copy of a toolchain that is this process's own: fresh, complete, checked byte by byte while it is made.

What Python imports comes from here alone. A folder that lies about for the next run, or that somebody else
has made, is only ever read as bytes whose digest is known: byte code, shared objects, `.pth` files or modules
that were put into it are not seen, and nothing can be exchanged between the check and the import.
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
    """The copy's folder, which only this user may enter and which goes when this process ends.

    Raises:
        ToolchainError: when a file is not the toolchain's, or there is no room for the copy.
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
            f"the copy of {toolchain.package} that is imported cannot be made: {explained(error)}"
        ) from None
    return folder


def is_checked_copy(folder: Path, toolchain: Toolchain) -> bool:
    """Whether a folder is such a copy: this user's alone, with the toolchain's bytes."""
    return is_private(folder) and all(
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
