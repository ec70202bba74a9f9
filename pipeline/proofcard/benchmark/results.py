"""Stores results: a numbered folder below `benchmarks`, under a partial name until it is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from proofcard import documents, portable
from proofcard.bundle import bundled
from proofcard.config.benchmarking import Published
from proofcard.documents.base import Document
from proofcard.documents.benchmark import Results
from proofcard.errors import Stop, Usage
from proofcard.progress import shown
from proofcard.tracking import Tracker

NUMBERS = "results.json"
PAGE = "report.md"
_PARTIAL = ".partial"


@contextmanager
def new_folder(folder: Path, name: str) -> Iterator[Path]:
    """A new folder `<name>-NNN.partial` in `folder`, which loses its `.partial` at the end.

    After a failure it keeps the suffix if it contains numbers, and a note on the exception says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = _fresh(folder, name)
    try:
        yield partial
    except BaseException as error:
        if (partial / NUMBERS).exists():
            error.add_note(f"results so far are in {shown(partial)}")
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(partial.with_name(partial.name.removesuffix(_PARTIAL)))


def _fresh(folder: Path, name: str) -> Path:
    numbers = [path.name.removesuffix(_PARTIAL).removeprefix(f"{name}-") for path in folder.glob(f"{name}-*")]
    number = max((int(each) for each in numbers if each.isdigit()), default=0) + 1
    while True:
        partial = folder / f"{name}-{number:03d}{_PARTIAL}"
        try:
            partial.mkdir()
            return partial
        except FileExistsError:  # another process was faster
            number += 1


def final(partial: Path) -> Path:
    """The final name of a folder."""
    return partial.with_name(partial.name.removesuffix(_PARTIAL))


def write(folder: Path, name: str, text: str) -> None:
    """Write a file of the folder atomically."""
    fresh = folder / f".{name}.new"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(folder / name)


def leave(folder: Path, name: str, document: Document, page: str, tracker: Tracker, artifacts: str) -> None:
    """Write the document as the file `name`, and its Markdown page; track both under `artifacts`."""
    write(folder, name, portable.document(document).text())
    write(folder, PAGE, page)
    for each in (name, PAGE):
        tracker.file(folder / each, artifacts)


def save(folder: Path, results: Document) -> None:
    """Save the numbers measured so far."""
    write(folder, NUMBERS, portable.document(results).text())


def read(folder: Path) -> Results:
    """The results in a folder.

    Raises:
        Usage: when it has none.
    """
    try:
        return documents.read(Results, folder / NUMBERS, folder)
    except (OSError, Stop) as error:
        raise Usage(f"{folder} has no benchmark results ({error})") from None


def earlier(folder: Path, name: str, load: dict[str, Any]) -> Path | None:
    """The newest complete results of the same name with answers and prompts of the same length."""
    lengths = ("input_tokens", "output_tokens")
    for path in sorted(folder.glob(f"{name}-*"), reverse=True):
        if path.suffix == _PARTIAL or not (path / NUMBERS).exists():
            continue
        try:
            series = read(path)
        except Usage:  # from another version of this program
            continue
        if all(series.load.get(each) == load[each] for each in lengths):
            return path
    return None


def published(names: tuple[str, ...]) -> list[Published]:
    """Published series by name.

    Raises:
        Usage: for a name that `conf/benchmark/published` does not have.
    """
    folder = bundled("conf/benchmark/published")
    series = []
    for name in names:
        if not (folder / f"{name}.yaml").exists():
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise Usage(
                f"benchmark.beside names {name}, which is not a published series: choose from {known}"
            )
        series.append(
            Published.model_validate(OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml")))
        )
    return series
