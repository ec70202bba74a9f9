"""A report is never replaced by one that proves less of the same checkpoint."""

import io
import json
from pathlib import Path

from rich.console import Console

from proofcard.config.schema import VerifyConfig
from proofcard.verify import run


def verified(checkpoint: Path, source: Path | None, report: Path, *levels: str) -> tuple[int, str]:
    screen = Console(file=io.StringIO(), width=100)
    config = VerifyConfig(checkpoint=checkpoint, source=source, levels=levels or None, report=report)
    return run(config, screen), screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_weaker_outcome_leaves_the_stronger_report(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert verified(checkpoint, source, report)[0] == 0
    proved = report.read_bytes()
    for weaker in ((None,), (tmp_path / "gone",), (None, "integrity")):
        _, screen = verified(checkpoint, weaker[0], report, *weaker[1:])
        assert report.read_bytes() == proved
        assert "r.json is kept as it was: it also proves" in screen
    _, screen = verified(checkpoint, None, tmp_path / "other.json")
    assert "is kept" not in screen
    assert json.loads((tmp_path / "other.json").read_text())["levels"]["weights"]["result"] == "not requested"


def test_what_differs_now_replaces_it_and_so_does_another_checkpoint(
    checkpoint: Path, source: Path, tmp_path: Path
) -> None:
    report = tmp_path / "r.json"
    verified(checkpoint, source, report)
    (checkpoint / "more.txt").write_text("not sealed")
    assert verified(checkpoint, None, report)[0] == 1
    assert json.loads(report.read_text())["result"] == "differs"
    (checkpoint / "more.txt").unlink()
    proved = json.loads(report.read_text())
    verified(checkpoint, source, report)
    changed = json.loads(report.read_text())
    changed["manifest"]["sha256"] = "0" * 64
    report.write_text(json.dumps(changed))
    verified(checkpoint, None, report)
    assert json.loads(report.read_text())["levels"]["weights"]["result"] == "not requested"
    assert proved["manifest"]["key"] == json.loads(report.read_text())["manifest"]["key"]


def test_a_damaged_report_is_replaced(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    report.write_text('{"schema": "proofcard/verification/3"}')
    run(
        VerifyConfig(checkpoint=checkpoint, source=source, levels=None, report=report),
        Console(file=io.StringIO()),
    )
    assert json.loads(report.read_text())["result"] == "verified"
