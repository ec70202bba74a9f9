"""How every command ends: written whole, tracked, shown, and on request all of standard output."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from running import command

from proofcard import outcome, screen
from proofcard.documents.fetched import Fetched
from proofcard.screen import Screen
from proofcard.tracking import Tracker

DOCUMENT = Fetched(recipe="demo", model=None, samples=None)


class Kept(Tracker):
    """Keeps what it would track."""

    def __init__(self) -> None:
        super().__init__(None)
        self.files: list[tuple[str, str]] = []

    def file(self, path: Path, folder: str) -> None:
        self.files.append((path.read_text(), folder))


def show(out: Screen) -> None:
    out.print("a table")


def test_a_file_is_written_tracked_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Kept()
    outcome.deliver(DOCUMENT, tmp_path / "new" / "x.json", show, tracker, "fetch")
    assert (tmp_path / "new" / "x.json").read_text() == DOCUMENT.text()
    assert tracker.files == [(DOCUMENT.text(), "fetch")]
    out = capsys.readouterr().out.split()
    assert out[:2] == ["a", "table"] and out[-1].endswith("x.json")


def test_a_folder_has_page_and_figures_or_is_the_former_one(tmp_path: Path) -> None:
    class Figure:
        def savefig(self, path: Path) -> None:
            path.write_text("drawn")

    deliver = partial(outcome.deliver_folder, DOCUMENT, tmp_path / "report", "x.json", show)
    tracker = Kept()
    deliver(tracker, "fetch", page="# page\n", figures={"one": Figure})
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"x.json", "report.md", "one.png"}
    assert [folder for _, folder in tracker.files] == ["plots", "fetch", "fetch"]

    def broken() -> Figure:
        raise ValueError("no figure")

    with pytest.raises(ValueError, match="no figure"):
        deliver(tracker, "fetch", page="# other\n", figures={"one": broken})
    assert (tmp_path / "report" / "report.md").read_text() == "# page\n"


def test_with_json_standard_output_is_the_document_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "_json_asked", True)
    outcome.present(DOCUMENT, show, "last line")
    said = capsys.readouterr()
    assert said.out == DOCUMENT.text()
    assert said.err.split() == ["a", "table", "last", "line"]


def test_json_is_for_one_configuration(tmp_path: Path) -> None:
    done = command("quantize", "-m", "seed=1,2", "tracking=off", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json is for one configuration" in done.stderr


def test_a_refused_command_prints_no_json(tmp_path: Path) -> None:
    done = command("compare", f"a={tmp_path}/x", f"b={tmp_path}/y", "tracking=off", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


def test_the_switch_is_of_one_process_only() -> None:
    code = (
        "from proofcard import screen; screen.ask_for_json(); "
        "import sys, json; screen.Screen().print('table'); print(json.dumps(screen.json_is_asked()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) is True and ended.stderr == "table\n"
    assert not screen.json_is_asked()
