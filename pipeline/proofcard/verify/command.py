"""`verify`: from the command line to an exit status."""

import sys
from pathlib import Path

from proofcard import documents, screen, tracking, tracking_headlines
from proofcard.config import VerifyConfig, compose
from proofcard.documents import Verification
from proofcard.errors import Stop, Usage
from proofcard.screen import Screen
from proofcard.tracking import Tracker
from proofcard.verify import delivered, report_path
from proofcard.verify.report import STATUS


def run(overrides: list[str]) -> int:
    """Compose, verify and track. Returns 0 verified, 1 differs, 2 not checked.

    The run is filed under the checkpoint's key, as its manifest gives it: what differs, too.

    Raises:
        Usage: when nothing could be checked.
    """
    config = compose(VerifyConfig, "verify", overrides)
    folder = config.checkpoint
    subject = tracking.subject_of(folder) if isinstance(folder, Path) else None  # not here yet
    try:
        with tracking.opened(config.tracking, "verify", config.work_dir, subject=subject) as tracker:
            tracker.params({"source": config.source, "levels": config.levels})
            outcome = delivered(config, Screen())  # the outcome on stdout, progress on stderr
            path = report_path(config)
            if path.read_text(encoding="utf-8") == outcome.text():
                _track(tracker, path)
            else:  # an earlier report, which proves more, was kept
                tracker.tags({"result": outcome.result})
    except Stop as stop:
        raise Usage(str(stop)) from None
    if screen.json_is_asked():
        sys.stdout.write(outcome.text())
    return STATUS[outcome.result]


def _track(tracker: Tracker, path: Path) -> None:
    """The outcome, whole and by level."""
    report = documents.read(Verification, path)
    levels = {name: level for name, level in report.levels.items() if level.result != "not requested"}
    tracker.tags({"result": report.result} | {f"level.{name}": each.result for name, each in levels.items()})
    tracker.metrics({"differences": float(sum(level.differences.total for level in levels.values()))})
    tracker.table(
        [
            {"level": name, "result": level.result, "differences": level.differences.total}
            | {"looked at": ", ".join(f"{count:,} {what}" for what, count in level.counts.items())}
            for name, level in levels.items()
        ],
        "verification/levels.json",
    )
    tracker.headlines(tracking_headlines.of_verification(report))
    proved = [name for name, level in levels.items() if level.result == "holds"]
    differs = any(level.result == "differs" for level in levels.values())
    if differs or ("weights" in proved and len(proved) == len(levels)):
        tracker.verified(not differs, ", ".join(proved) or "nothing")
    tracker.file(path, "verification")
