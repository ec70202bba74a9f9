"""A manifest changed in one place and sealed anew, as anybody can."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proofcard import manifest

Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, target: Path, *changes: Change) -> Path:
    """The manifest of a sealed folder, changed and sealed anew, as a file."""
    body: dict[str, Any] = json.loads((folder / manifest.NAME).read_text())
    del body["seal"]
    for change in changes:
        change(body)
    target.write_text(manifest.seal(body), encoding="utf-8")
    return target


def put(*path: str, value: Any) -> Change:
    """Set one field."""

    def change(body: dict[str, Any]) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = value

    return change


OTHER_CODE = (
    put("toolchain", "code", value="0" * 64),
    put("inputs", "samples", "toolchain", "code", value="0" * 64),
)
"""Of an earlier or later commit, whose keys follow from other rules."""
