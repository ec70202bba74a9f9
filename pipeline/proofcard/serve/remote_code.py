"""Code that a checkpoint brings runs only when somebody has read it and pinned its digests."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from proofcard.bundle import bundled
from proofcard.checkpoint.source import check_remote_code
from proofcard.digest import sha256_file
from proofcard.errors import Stop, Usage


def needed(checkpoint: Path, config: dict[str, Any], given: dict[str, str]) -> bool:
    """Whether the checkpoint brings code that must run, every file of it pinned, by `given` or in conf/model.

    Raises:
        Usage: for a file whose digest nobody has pinned.
    """
    found = {file.name: sha256_file(file) for file in checkpoint.glob("*.py")}
    pins = given or next((known for known in _known() if known == found), {})
    try:
        return check_remote_code(checkpoint, config, pins)
    except Stop as stop:
        raise Usage(str(stop).replace("model.remote_code", "serving.remote_code")) from None


def _known() -> list[dict[str, str]]:
    """The pins of every model in `conf/model`."""
    options = (OmegaConf.load(path) for path in sorted(bundled("conf/model").glob("*.yaml")))
    return [dict(OmegaConf.select(option, "remote_code") or {}) for option in options]
