"""Makes `import modelopt` load the checked toolchain and nothing else."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from proofcard.toolchain.folder import Toolchain
from proofcard.toolchain.private import checked_copy, is_checked_copy
from proofcard.toolchain.series import ToolchainError

_copies: dict[str, Path] = {}
"""This process's copies, by the toolchain's digest."""


def activate(toolchain: Toolchain) -> None:
    """Put a private, checked copy of the toolchain first on the import path.

    For this process and its children (PYTHONPATH), as long as this process lives: a worker that silently
    imported the unpatched package would write different bytes. A child that needs another environment must be
    given its own PYTHONPATH. Safe to call twice; the last toolchain wins.

    Raises:
        ToolchainError: when the package was or would still be imported from elsewhere, when the
            toolchain's folder was changed, or there is no space for the copy.
    """
    name = toolchain.imports
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is not None:
        copy = Path(loaded).resolve().parents[1]
        if copy != _copies.get(toolchain.digest) and not is_checked_copy(copy, toolchain):
            raise ToolchainError(
                f"{name} was already imported from {Path(loaded).parent}: activate the toolchain "
                f"{toolchain.series} before the first import of {name}, in a new process"
            )
        _copies[toolchain.digest] = copy  # inherited by forked processes
    if toolchain.digest not in _copies:
        _copies[toolchain.digest] = checked_copy(toolchain).resolve()
    path = str(_copies[toolchain.digest])
    sys.path[:] = [path, *(entry for entry in sys.path if entry != path)]
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    os.environ["PYTHONPATH"] = os.pathsep.join([path, *(entry for entry in inherited if entry != path)])
    if loaded is None:
        importlib.invalidate_caches()
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or not Path(origin).is_relative_to(path):
            raise ToolchainError(
                f"{name} would be imported from {origin}, not from the toolchain {toolchain.series}: "
                "something else in this process changes the import path; start a new process without it"
            )
