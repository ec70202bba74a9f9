"""A small checkpoint with its source, proved and with its card, ready to be published."""

import shutil
from pathlib import Path

from running import ROOT

from proofcard.card.command import run as card
from proofcard.verify.command import run as verify

GOLDEN = ROOT / "tests" / "golden" / "manifest-1"
OFF = ("tracking=off", "work_dir=runs")


def ready(folder: Path) -> Path:
    """The golden checkpoint in `folder`, the working folder, verified and with its card."""
    for name in ("checkpoint", "source"):
        shutil.copytree(GOLDEN / name, folder / name)
    assert verify(["checkpoint=checkpoint", "source=source", *OFF]) == 0
    assert card(["checkpoint=checkpoint", "license=apache-2.0", *OFF]) == 0
    return folder / "checkpoint"
