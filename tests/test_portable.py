"""Documents name no folder of the machine on which they were made."""

from pathlib import Path

import pytest

from proofcard import portable
from proofcard.documents.base import Document


class Note(Document):
    line: str
    more: dict[str, list[str]]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/somebody/work"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/somebody/work/.venv/bin/python -m x", "./.venv/bin/python -m x"),
        ("--model=/home/somebody/models/a", "--model=~/models/a"),
        ("A=/home/somebody", "A=~"),
        ("/home/somebody.", "~."),
        ("'/home/somebody/work'", "'.'"),
        ("/home/somebodyelse/x", "/home/somebodyelse/x"),
        ("/home/somebody-2", "/home/somebody-2"),
        ("/data/home/somebody/x", "/data/home/somebody/x"),
        ("/data/made/model", "DIR/model"),
    ],
)
def test_folders_are_replaced_wherever_they_are(text: str, shown: str) -> None:
    names = {Path("/data/made"): "DIR"}
    made = portable.document(Note(line=text, more={"x": ["", text]}), names)
    assert made == Note(line=shown, more={"x": ["", shown]})


def test_a_document_without_them_stays_the_same_one() -> None:
    note = Note(line="/usr/bin", more={})
    assert portable.document(note) is note


def test_the_root_of_the_filesystem_is_nobody_s_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(Path, "cwd", lambda: Path("/"))
    note = Note(line="/usr/bin / 2", more={})
    assert portable.document(note) is note
