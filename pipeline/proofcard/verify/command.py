"""`verify`: from the command line to an exit status."""

import re
import sys
from pathlib import Path

from proofcard import documents, screen, tracking, tracking_headlines
from proofcard.config import VerifyConfig, compose
from proofcard.documents import Verification
from proofcard.errors import Stop, Usage
from proofcard.screen import Screen
from proofcard.tracking import Tracker
from proofcard.verify import report_path
from proofcard.verify import run as verify


def run(overrides: list[str]) -> int:
    """Compose, verify and track. Returns 0 verified, 1 differs, 2 not checked.

    The run is filed under the checkpoint's key, as its manifest gives it: what differs, too.

    Raises:
        Usage: when nothing could be checked.
    """
    config = compose(VerifyConfig, "verify", [_listed(word) for word in overrides])
    folder = config.checkpoint
    subject = tracking.subject_of(folder) if isinstance(folder, Path) else None  # not here yet
    try:
        with tracking.opened(config.tracking, "verify", config.work_dir, subject=subject) as tracker:
            tracker.params({"source": config.source, "levels": config.levels})
            status = verify(config, Screen())  # the outcome on stdout, progress on stderr
            _track(tracker, report_path(config))
    except Stop as stop:
        raise Usage(str(stop)) from None
    if screen.json_is_asked():
        sys.stdout.write(report_path(config).read_text(encoding="utf-8"))
    return status


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
    if len(proved) < len(levels) or "weights" in proved:  # a check without the source changes nothing
        tracker.verified(len(proved) == len(levels), ", ".join(proved) or "nothing")
    tracker.file(path, "verification")


def _listed(word: str) -> str:
    """`layers=0,17,61` as the list that it means: Hydra would take it for three commands."""
    return f"layers=[{word.removeprefix('layers=')}]" if re.fullmatch(r"layers=\d+(,\d+)*", word) else word
