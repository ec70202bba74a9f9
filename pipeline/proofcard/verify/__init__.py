"""`verify`: is a checkpoint what was sealed, is it whole and sane, and does it follow from its source?

Three levels, each in a file of its own, told in one table and one report. Neither torch nor ModelOpt is
imported: what is checked is not checked with the program that made it.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from proofcard.checkpoint.source import Source
from proofcard.config.schema import LEVELS, VerifyConfig
from proofcard.errors import Stop, Usage, one_line
from proofcard.files import is_inside
from proofcard.progress import shown
from proofcard.verify import integrity, report, structure, weights
from proofcard.verify.report import Level

__all__ = ["report_path", "run"]


def run(config: VerifyConfig, console: Console) -> int:
    """Check every level asked for, show the outcome on `console`, write the JSON report.

    Returns 0 if every level holds, 1 if something differs, 2 if something could not be checked and nothing
    that could differs.

    Raises:
        Usage: when nothing can be checked, or the report has nowhere to stand; nothing was done then.
    """
    folder = _absolute(config.checkpoint)
    if not folder.is_dir():
        raise Usage(f"checkpoint={config.checkpoint} is no folder")
    if config.levels is not None and not config.levels:
        raise Usage(f"levels is empty; choose from {', '.join(LEVELS)}, or leave it out")
    target = report_path(config)
    threads = len(os.sched_getaffinity(0))
    asked: tuple[str, ...] = config.levels or tuple(
        name for name in LEVELS if name != "weights" or config.source is not None
    )
    source, refused = _source(config.source) if {"structure", "weights"} & set(asked) else (None, None)
    seal = integrity.Seal(folder)

    def check_structure() -> Level:
        level = structure.check(folder, source, seal.body)
        level.unchecked += [refused] if refused and config.source is not None else []
        return level

    def check_weights() -> Level:
        if source is None:
            return Level("weights", unchecked=[refused or "it needs source=DIR"])
        return weights.check(folder, source, threads, seal.body)

    checks: dict[str, Callable[[], Level]] = {
        "integrity": lambda: integrity.check(folder, seal, threads),
        "structure": check_structure,
        "weights": check_weights,
    }
    levels = []
    for name in LEVELS:
        if name in asked:
            levels.append(_timed(name, checks[name], folder, source))
        else:
            levels.append(Level(name, not_asked=_not_asked(name, config)))
    report.show(levels, console)
    report.write(target, report.document(levels, seal.identity()))
    result = report.overall(levels)
    console.print(f"report: {shown(target)}", markup=False, soft_wrap=True)
    console.print(result)
    return report.STATUS[result]


def _timed(name: str, check: Callable[[], Level], folder: Path, source: Source | None) -> Level:
    started = time.perf_counter()
    places = {"checkpoint": folder} | ({"source": source.path} if source else {})
    try:
        level = check()
    except (Stop, OSError, MemoryError) as error:
        level = Level(name, unchecked=[one_line(error, **places)])
    level.seconds = time.perf_counter() - started
    return level


def _not_asked(name: str, config: VerifyConfig) -> str:
    needs = {"integrity": "a sealed checkpoint", "structure": "nothing else", "weights": "source=DIR"}[name]
    if name == "weights" and config.source is not None:
        needs = "no more than the source given"
    return f"needs {needs}"


def _source(path: Path | None) -> tuple[Source | None, str | None]:
    """The source, or why it cannot be used; neither when none was given."""
    if path is None:
        return None, None
    path = _absolute(path)
    try:
        return Source(path), None
    except (Stop, OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        return None, f"source: {one_line(error, source=path)}"


def _absolute(path: Path) -> Path:
    """Links stay: beside a link's own name is where its report belongs."""
    return path.resolve() if path.name in ("", "..") else path.absolute()


def report_path(config: VerifyConfig) -> Path:
    """Where the report goes: never inside the checkpoint, which it would make another one.

    Raises:
        Usage: when it cannot be written there.
    """
    chosen, folder = config.report, _absolute(config.checkpoint)
    name = f"{folder.name or 'checkpoint'}.verification.json"
    target = _absolute(chosen) if chosen is not None else folder.with_name(name)
    if is_inside(target, folder):
        raise Usage(f"report={target} would stand inside the checkpoint; choose another place")
    if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise Usage(f"the report cannot be written to {target}; choose another place with report=FILE")
    return target
