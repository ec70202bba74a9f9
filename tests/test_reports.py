"""A report is the old one or the new one, whole, whoever else writes it and however full the disk is."""

import time
from pathlib import Path

import pytest
from children import ended, forked
from disks import needs_root, small_disk

from proofcard.errors import Stop
from proofcard.reports import place, writing


def write(target: Path, text: str) -> None:
    with writing(target) as fresh:
        for name in ("numbers.json", "report.md"):
            (fresh / name).write_text(text)
            time.sleep(0.05)


def test_two_at_once_both_end_well_and_leave_one_of_the_two(tmp_path: Path) -> None:
    target = tmp_path / "report"
    assert [ended(pid) for pid in [forked(lambda t=t: write(target, t)) for t in "ab"]] == [0, 0]
    assert len({path.read_text() for path in target.iterdir()}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"report", ".report.lock"}


@needs_root
def test_a_full_disk_leaves_the_former_report(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as small:
        target = small / "report"
        write(target, "old")
        with pytest.raises(OSError) as error:
            write(target, "x" * (1 << 20))
        assert error.value.filename is not None
        assert {path.read_text() for path in target.iterdir()} == {"old"}
        assert {path.name for path in small.iterdir()} == {"report", ".report.lock"}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    assert place(None, checkpoint, "analysis", "numbers.json") == tmp_path / "checkpoint.analysis"
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(
        Stop, match=rf"{tmp_path}: user \d+ has no write permission: choose another place for"
    ):
        place(None, checkpoint, "analysis", "numbers.json")
