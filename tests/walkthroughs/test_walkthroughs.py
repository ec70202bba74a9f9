"""The walk-throughs of docs/ as they are written, on the demo and a hub on loopback."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import forking
import pytest
from hub import Hub
from running import PROOFCARD, ROOT, surroundings
from walkthroughs.walking import Shell, steps, walk

DOCS = ROOT / "docs"
PAGES = ("publish.md", "trust.md", "change-one-thing.md")
# The hub's client reads its address and its home when it is imported: what asks the hub is not forked.
PROGRAM = """\
#!/bin/bash
case "$*" in
"publish "* | *hf://*) exec '{alone}' "$@" ;;
esac
exec env -u HF_ENDPOINT HOME='{home}' '{forked}' "$@"
"""


@pytest.fixture(scope="module")
def shell(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in a folder with the demo's source, in which the demo's checkpoint has been made already."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "demo").symlink_to(ROOT / "demo")
    key = json.loads((demo / "manifest.json").read_text())["key"]
    shutil.copytree(demo, folder / "runs" / "checkpoints" / f"demo-{key[:12]}")
    shutil.copytree(demo.parent / "runs" / "samples", folder / "runs" / "samples")
    with Hub() as hub:
        environment = forking.by_name(surroundings())
        environment |= {"HF_ENDPOINT": hub.endpoint, "HOME": str(folder / "home"), "COLUMNS": "80"}
        environment |= {"HF_TOKEN": hub.uploads.token}
        environment["PATH"] = f"{_programs(folder, environment['PATH'])}:{environment['PATH']}"
        with Shell(folder, environment) as opened:
            yield opened


def _programs(folder: Path, path: str) -> Path:
    """A folder whose `proofcard` is the forked one of this PATH where it may be."""
    programs = folder / "programs"
    programs.mkdir()
    forked = shutil.which("proofcard", path=path)
    (programs / "proofcard").write_text(
        PROGRAM.format(alone=PROOFCARD, forked=forked, home=os.environ["HOME"])
    )
    (programs / "proofcard").chmod(0o755)
    return programs


@pytest.fixture(scope="module")
def published(shell: Shell) -> int:
    """The first page, walked to its end: the others go on from there. The number of its steps."""
    return len(list(walk(DOCS / "publish.md", shell)))


def test_publish(published: int) -> None:
    assert published >= 9


def test_trust(published: int, shell: Shell) -> None:
    assert len(list(walk(DOCS / "trust.md", shell))) >= 15


def test_change_one_thing(published: int, shell: Shell) -> None:
    assert len(list(walk(DOCS / "change-one-thing.md", shell))) >= 5


@pytest.mark.parametrize("page", PAGES)
def test_every_shown_command_is_one_that_is_run(page: str) -> None:
    """A block of another kind than `console` would be read and never run."""
    text = (DOCS / page).read_text()
    assert text.count("```") == 2 * text.count("```console")
    assert any(step.shown for step in steps(text))
