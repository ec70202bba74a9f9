"""The environment of every child process: nothing in the working directory runs, and no secret leaks.

`python -m`, `python -c` and a script's own children put the working directory first on the import path, and
the working directory may be somebody else's checkpoint: a file `json.py` in it would run. So every child
gets PYTHONSAFEPATH, which its own children inherit, and no relative entry in a list of folders.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from proofcard.redact import holds_secret

_LISTS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH")
"""Variables that list folders: an empty entry means the working directory."""

_HARMLESS = (
    "PYTHONPATH", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8",
    "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONMALLOC", "PYTHONNOUSERSITE",
    "PYTHONDEVMODE", "PYTHONCOERCECLOCALE",
)  # fmt: skip
"""Python's variables that a child keeps. Others refer to code to import, or folders to import it from."""


def environment(own: Mapping[str, str] | None = None, secrets: bool = False) -> dict[str, str]:
    """The environment of a child: ours without what could run code, and without secrets unless it needs them.

    `own` are variables set for this child; they are passed unchanged.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _HARMLESS or not name.startswith("PYTHON")) and (secrets or not holds_secret(name, value))
    }
    return _safe(kept) | dict(own or {})


def python(*words: str) -> list[str]:
    """The command line of this interpreter, without the working directory on its import path."""
    return [sys.executable, "-P", *words]


def secure_this_process() -> None:
    """Make child processes started by libraries as safe as our own, and drop relative folders.

    Python has already read PYTHONPATH: what a relative entry put on the import path is removed again.
    """
    listed = os.environ.get("PYTHONPATH")
    relative = (
        [entry for entry in listed.split(os.pathsep) if not Path(entry).is_absolute()] if listed else []
    )
    if relative:
        folders = {Path(entry).resolve() for entry in relative}
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in folders]
    safe = _safe(dict(os.environ))
    for name in os.environ.keys() - safe.keys():
        del os.environ[name]
    os.environ.update(safe)


def _safe(variables: dict[str, str]) -> dict[str, str]:
    """The variables with PYTHONSAFEPATH, without relative entries in lists of folders."""
    for name in _LISTS:
        if name in variables:
            entries = [entry for entry in variables[name].split(os.pathsep) if Path(entry).is_absolute()]
            variables[name] = os.pathsep.join(entries)
            if not entries:
                del variables[name]
    return variables | {"PYTHONSAFEPATH": "1"}
