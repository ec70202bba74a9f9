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


def forged(folder: Path, target: Path, *changes: Change) -> Path:
    """As `changed`, the keys made to follow from the changed fields: no contradiction is left to be found."""
    from proofcard import deciding
    from proofcard.config import ReproduceConfig, compose
    from proofcard.reproduce import recorded
    from proofcard.reproduce.configuring import configured

    words = [f"manifest={changed(folder, target, *changes)}", "tracking=off", f"work_dir={target.parent}"]
    asked = compose(ReproduceConfig, "reproduce", words)
    body = recorded.read(asked).body
    settings = deciding.settings(configured(recorded.read(asked), asked))
    samples = body["inputs"]["samples"]
    samples["key"] = manifest.key_of("samples", settings["samples"], samples["inputs"], samples["toolchain"])
    inputs = {"source": body["inputs"]["source"], "samples": {"key": samples["key"]}}
    toolchain = {
        name: value for name, value in body["toolchain"].items() if name not in ("lock", "environment")
    }
    body["key"] = manifest.key_of("quantize", settings["quantize"], inputs, toolchain)
    target.write_text(manifest.seal(body), encoding="utf-8")
    return target
