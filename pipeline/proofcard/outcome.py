"""How every command ends: its document is written, tracked, shown, and printed with --json.

compose → check → execute → document; this module is the last step.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proofcard import portable, screen
from proofcard.disk import write_whole
from proofcard.documents.base import Document
from proofcard.progress import shown
from proofcard.reports import writing
from proofcard.screen import Screen
from proofcard.tracking import Tracker

PAGE = "report.md"
Show = Callable[[Screen], None]
"""Prints a document as tables for people."""


def deliver(document: Document, path: Path, show: Show, tracker: Tracker, artifacts: str) -> None:
    """Deliver a document that is a single file. `artifacts` is its folder in MLflow.

    Raises:
        OSError: when the file cannot be written; an existing one is kept.
    """
    document = portable.document(document)
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
    """Deliver a document as the file `name` in a folder, with a Markdown page and PNG figures.

    The folder is replaced as a whole or not at all.

    Raises:
        OSError: when it cannot be written.
    """
    document, drawn = portable.document(document), figures or {}
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
    """Show a document and a `last` line. With --json only the document goes to standard output."""
    out = Screen()
    show(out)
    if last:
        out.print(last, soft_wrap=True)
    if screen.json_is_asked():
        sys.stdout.write(document.text())
        sys.stdout.flush()
