"""How every command ends: its document is written whole, tracked, shown, and with --json printed.

compose → check → execute → document; here is what comes after the last arrow.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proofcard import screen
from proofcard.disk import write_whole
from proofcard.documents.base import Document
from proofcard.progress import shown
from proofcard.reports import writing
from proofcard.screen import Screen
from proofcard.tracking import Tracker

PAGE = "report.md"
Show = Callable[[Screen], None]
"""Prints a document as tables for a person."""


def deliver(document: Document, path: Path, show: Show, tracker: Tracker, artifacts: str) -> None:
    """A document that is one file. `artifacts` is its folder in MLflow.

    Raises:
        OSError: when the file cannot be written; one that was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, document.text())
    tracker.file(path, artifacts)
    present(document, show, f"report: {shown(path)}")


def deliver_folder(
    document: Document,
    folder: Path,
    name: str,
    show: Show,
    tracker: Tracker,
    artifacts: str,
    page: str,
    figures: Mapping[str, Callable[[], Any]] | None = None,
) -> None:
    """A document that is the file `name` of a folder, with a page in Markdown and PNG figures beside it.

    The folder is complete or it is the former one.

    Raises:
        OSError: when it cannot be written.
    """
    drawn = figures or {}
    with writing(folder) as fresh:
        for title, draw in drawn.items():
            draw().savefig(fresh / f"{title}.png")
        (fresh / PAGE).write_text(page, encoding="utf-8")
        (fresh / name).write_text(document.text(), encoding="utf-8")
    for title in drawn:
        tracker.file(folder / f"{title}.png", "plots")
    for each in (PAGE, name):
        tracker.file(folder / each, artifacts)
    present(document, show, f"report{', figures' if drawn else ''} and numbers: {shown(folder)}")


def present(document: Document, show: Show, last: str = "") -> None:
    """Show a document and a `last` line. With --json it is all that goes to standard output."""
    out = Screen()
    show(out)
    if last:
        out.print(last, soft_wrap=True)
    if screen.json_is_asked():
        sys.stdout.write(document.text())
        sys.stdout.flush()
