"""A small checkpoint with its source, proved and with its card, ready to be published."""

import shutil
from pathlib import Path

from hub import Hub
from running import ROOT

from proofcard.card.command import run as card
from proofcard.publish.command import run
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


NAME = "org/demo-NVFP4"


def publish(*words: str) -> int:
    """`publish` of the folder `checkpoint`, without asking."""
    return run(["checkpoint=checkpoint", f"repository={NAME}", "yes=true", *OFF, *words])


def files(hub: Hub) -> dict[str, bytes]:
    """What the repository's main branch has."""
    return hub.repositories["model", NAME].files_of("main")
