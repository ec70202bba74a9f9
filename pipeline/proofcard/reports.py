"""Reports: sections with tables for the screen and as Markdown, and the folder of a report."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from proofcard.disk import check_writable, in_folder
from proofcard.documents.base import Difference
from proofcard.errors import Stop
from proofcard.files import is_inside
from proofcard.grid import Grid
from proofcard.hub_cache import name_in_cache
from proofcard.locks import alone
from proofcard.progress import shown
from proofcard.screen import in_markdown, on_one_line

FOLDER = "reports"
"""Below `work_dir`: reports about checkpoints beside which none may lie."""


@dataclass
class Section:
    """One question: its title, a sentence or two with the answer, and a table; rows are already text."""

    title: str
    said: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def show(found: list[Section], console: Console) -> None:
    """Print each section's text and table."""
    for section in found:
        console.print()
        console.print(Text(on_one_line(section.title), style="bold"))
        console.print(Text(on_one_line(section.said)))
        if section.rows:
            table = Grid(*section.header)
            for row in section.rows:
                table.add_row(*row)
            console.print()
            console.print(table)


def markdown(found: list[Section]) -> list[str]:
    """The same as lines of Markdown, with all text of sections escaped."""
    lines = []
    for section in found:
        lines += [f"## {in_markdown(section.title)}", "", in_markdown(section.said), ""]
        if section.rows:
            lines += [_row(section.header), _row(["---"] * len(section.header))]
            lines += [*map(_row, section.rows), ""]
    return lines


def percent(share: float) -> str:
    """A share of 1 as a percentage with one decimal, four if it is small."""
    return f"{100 * share:.4f}%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(map(in_markdown, cells)) + " |"


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """Every name with different values, with both, sorted by name, except the recipe's own name."""
    names = [*a, *(name for name in b if name not in a)]
    return [
        Difference(name=name, a=a.get(name), b=b.get(name))
        for name in names
        if a.get(name) != b.get(name) and not name.startswith("recipe.")
    ]


def beside(checkpoint: Path, suffix: str, work_dir: Path) -> Path:
    """Where a report about a checkpoint goes: `<checkpoint>.<suffix>`, next to it, by its given name.

    For a folder inside the hub client's cache it is below `work_dir`, in a folder that is made here: the
    cache stays as it is.
    """
    checkpoint = checkpoint.resolve() if checkpoint.name in ("", "..") else checkpoint.absolute()
    cached = name_in_cache(checkpoint)
    if cached is None:
        return checkpoint.with_name(f"{checkpoint.name or 'checkpoint'}.{suffix}")
    folder = work_dir.absolute() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{cached}.{suffix}"


def place(
    asked: Path | None, checkpoint: Path, suffix: str, numbers: str, work_dir: Path = Path("runs")
) -> Path:
    """The folder of a report: `beside` the checkpoint, never inside; it replaces only an earlier report.

    `numbers` is the file that identifies an earlier one.

    Raises:
        Stop: when something else exists there, or its parent folder does not exist.
    """
    checkpoint = checkpoint.absolute()
    target = (asked or beside(checkpoint, suffix, work_dir)).absolute()
    if is_inside(target, checkpoint):
        raise Stop(f"report={target} would be inside the checkpoint; choose another place")
    if target.exists() and not (target / numbers).exists() and (not target.is_dir() or any(target.iterdir())):
        raise Stop(f"{target} exists and is not a report; choose another place with report=DIR")
    if not target.parent.is_dir():
        raise Stop(f"{target.parent} does not exist; choose another place with report=DIR")
    check_writable(target.parent)
    return target


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """A new folder to write to, which replaces `target` at the end; a failure keeps the earlier one."""
    fresh = target.with_name(f".{target.name}.partial")
    with alone(target.with_name(f".{target.name}.lock"), f"writing {shown(target)}", waits=True):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            with in_folder(target):
                yield fresh
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
