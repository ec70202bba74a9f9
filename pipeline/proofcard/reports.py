"""A report: sections with tables for the screen, the same ones as Markdown, and the folder that holds it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proofcard.disk import check_writable, in_folder
from proofcard.documents.base import Difference
from proofcard.errors import Stop
from proofcard.files import is_inside
from proofcard.locks import alone
from proofcard.progress import shown
from proofcard.screen import in_markdown, on_one_line


@dataclass
class Section:
    """One question: its title, a sentence or two with the answer, and a table; rows are already text."""

    title: str
    said: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def show(found: list[Section], console: Console) -> None:
    """Each question's answer and its table."""
    for section in found:
        console.print()
        console.print(Text(on_one_line(section.title), style="bold"))
        console.print(Text(on_one_line(section.said)))
        table = Table(box=SIMPLE, pad_edge=False)
        for place, heading in enumerate(section.header):
            table.add_column(
                Text(on_one_line(heading)),
                justify="right" if place else "left",
                overflow="fold",
                no_wrap=not place,
            )
        for row in section.rows:
            table.add_row(*(Text(on_one_line(cell)) for cell in row))
        console.print(table)


def markdown(found: list[Section]) -> list[str]:
    """The same as lines of Markdown, in which nothing of a section is markup."""
    lines = []
    for section in found:
        lines += [f"## {in_markdown(section.title)}", "", in_markdown(section.said), ""]
        if section.rows:
            lines += [_row(section.header), _row(["---"] * len(section.header))]
            lines += [*map(_row, section.rows), ""]
    return lines


def percent(share: float) -> str:
    """A share of 1 with one digit after the point, four where it is small."""
    return f"{100 * share:.4f}%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(map(in_markdown, cells)) + " |"


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """Every name whose values differ, with both, by name alone; what a recipe calls itself is left out."""
    names = [*a, *(name for name in b if name not in a)]
    return [
        Difference(name=name, a=a.get(name), b=b.get(name))
        for name in names
        if a.get(name) != b.get(name) and not name.startswith("recipe.")
    ]


def place(asked: Path | None, checkpoint: Path, suffix: str, numbers: str) -> Path:
    """Where a report goes: beside the checkpoint, never inside, and over nothing but a former report.

    `numbers` is the file by which a former one is known.

    Raises:
        Stop: when something else stands there, or there is no such place.
    """
    checkpoint = checkpoint.absolute()
    target = (asked or checkpoint.with_name(f"{checkpoint.name}.{suffix}")).absolute()
    if is_inside(target, checkpoint):
        raise Stop(f"report={target} would stand inside the checkpoint; choose another place")
    if target.exists() and not (target / numbers).exists() and (not target.is_dir() or any(target.iterdir())):
        raise Stop(f"{target} holds something else; choose another place with report=DIR")
    if not target.parent.is_dir():
        raise Stop(f"{target.parent} does not exist; choose another place with report=DIR")
    check_writable(target.parent)
    return target


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """A fresh folder to write into, which then stands as `target`; a failure leaves the former one."""
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
