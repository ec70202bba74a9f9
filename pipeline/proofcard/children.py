"""The environment of every process that is started here: nothing in the working folder runs, no secret leaks.

`python -m`, `python -c` and a script's own children put the working folder first on the import path, and the
working folder may be a checkpoint that somebody else made: a file `json.py` in it would run. So every child
gets PYTHONSAFEPATH, which its own children inherit, and no relative entry in a list of folders.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from proofcard.redact import holds_secret

_LISTS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH")
"""Variables that list folders: an empty entry means the working folder."""

_HARMLESS = (
    "PYTHONPATH", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8",
    "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONMALLOC", "PYTHONNOUSERSITE",
    "PYTHONDEVMODE", "PYTHONCOERCECLOCALE",
)  # fmt: skip
"""The variables of Python that a child keeps. Others name code to import, or folders to import it from."""


def environment(own: Mapping[str, str] | None = None, secrets: bool = False) -> dict[str, str]:
    """The environment of a child: ours without what could run code, and without secrets unless it needs them.

    `own` are variables set for this child; they are passed on as they are.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _HARMLESS or not name.startswith("PYTHON")) and (secrets or not holds_secret(name, value))
    }
    return _safe(kept) | dict(own or {})


def python(*words: str) -> list[str]:
    """The command line of this interpreter, the working folder not on its import path."""
    return [sys.executable, "-P", *words]


def secure_this_process() -> None:
    """Make what libraries start from this process as safe as what we start, and forget relative folders.

    Python has read PYTHONPATH by now: what a relative entry of it put on the import path is taken off again.
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
    """The variables with PYTHONSAFEPATH, relative entries left out of lists of folders."""
    for name in _LISTS:
        if name in variables:
            entries = [entry for entry in variables[name].split(os.pathsep) if Path(entry).is_absolute()]
            variables[name] = os.pathsep.join(entries)
            if not entries:
                del variables[name]
    return variables | {"PYTHONSAFEPATH": "1"}
