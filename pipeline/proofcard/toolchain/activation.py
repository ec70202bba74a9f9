"""Making `import modelopt` mean the materialised copy."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from proofcard.toolchain.folder import NONE, Toolchain
from proofcard.toolchain.series import ToolchainError


def activate(toolchain: Toolchain) -> None:
    """Put the toolchain first on the import path, of this process and of its children (PYTHONPATH).

    Children inherit it because a worker that quietly imported the unpatched package would write other
    bytes. A child that needs another environment has to be given its own PYTHONPATH. Safe to call twice.

    Raises:
        ToolchainError: when the package was imported from elsewhere, or would be in spite of this.
    """
    name, path = toolchain.imports, str(toolchain.path)
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is not None and not _lies_in(loaded, toolchain.path):
        raise ToolchainError(
            f"{name} was imported already, from {Path(loaded).parent}: activate the toolchain "
            f"{toolchain.series} before the first import of {name}, in a new process"
        )
    if toolchain.series != NONE:
        sys.path[:] = [path, *(entry for entry in sys.path if entry != path)]
        inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        os.environ["PYTHONPATH"] = os.pathsep.join([path, *(entry for entry in inherited if entry != path)])
    if loaded is None:
        importlib.invalidate_caches()
        found = importlib.util.find_spec(name)
        origin = found.origin if found else None
        if origin is None or not _lies_in(origin, toolchain.path):
            raise ToolchainError(
                f"{name} would come from {origin}, not from the toolchain {toolchain.series}: "
                "another one is active, or PYTHONPATH names one; start a new process without it"
            )


def _lies_in(file: str, folder: Path) -> bool:
    return Path(file).resolve().is_relative_to(folder.resolve())
