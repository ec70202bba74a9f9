"""`verify`: is a checkpoint what was sealed, is it whole and sane, and does it follow from its source?

Each level has its own module; all results go into one table and one report. The levels that run by default
import neither torch nor ModelOpt: a checkpoint is not checked with the program that made it.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from proofcard import nvfp4
from proofcard.checkpoint.reading import Lost
from proofcard.checkpoint.source import Source
from proofcard.config.schema import LEVELS, HubAddress, VerifyConfig
from proofcard.cores import cores
from proofcard.disk import write_whole
from proofcard.documents.verification import Maker, Verification
from proofcard.errors import Stop, Usage, one_line
from proofcard.extras import require
from proofcard.progress import shown
from proofcard.screen import on_one_line
from proofcard.signatures.trust import Trust
from proofcard.verify import (
    api,
    hub_digests,
    integrity,
    maker,
    recomputed_levels,
    report,
    signature,
    structure,
    weights,
)
from proofcard.verify.earlier import proves_more
from proofcard.verify.formats import as_junit, as_sarif
from proofcard.verify.places import Places, opened, report_paths, side_by_side
from proofcard.verify.report import Level

__all__ = ["delivered", "judged", "outcome_of", "report_path", "run"]

_ALWAYS = ("integrity", "structure", "weights")  # whenever their inputs are given; the others on request
_NEEDS = {
    "integrity": "levels=[integrity] and a sealed checkpoint",
    "structure": "levels=[structure]",
    "weights": "source=DIR",
    "samples": "levels=[samples] and samples=DIR",
    "calibration": "levels=[calibration], source=DIR and samples=DIR",
    "signature": "public_key=FILE or certificate_chain=[FILE]",
}


def run(config: VerifyConfig, console: Console) -> int:
    """As `delivered`. Returns 0 if every level holds, 1 if something differs, 2 if something could not be
    checked and nothing that could differs.
    """
    return report.STATUS[delivered(config, console).result]


def delivered(config: VerifyConfig, console: Console) -> Verification:
    """Check every requested level, show the outcome on `console`, write the report and its other forms.

    A report that proves more of the same checkpoint is not replaced.

    Raises:
        Usage: when nothing can be checked, or the report cannot be written; nothing was done.
        Stop: when the hub refuses or cannot be reached before anything could be checked.
    """
    targets = report_paths(config)
    outcome, levels = outcome_of(config)
    report.show(levels, console)
    if outcome.maker is not None:
        _show_maker(outcome.maker, console)
    for target, made in zip(targets, (Verification.text, as_junit, as_sarif), strict=True):
        if target is not None and not (made is Verification.text and _is_kept(target, outcome, console)):
            write_whole(target, made(outcome))
            console.print(f"report: {shown(target)}", markup=False, soft_wrap=True)
    console.print(report.conclusion(outcome, levels), markup=False, soft_wrap=True)
    return outcome


def outcome_of(config: VerifyConfig) -> tuple[Verification, list[Level]]:
    """The outcome of every requested level; nothing is written or shown but the progress.

    Raises:
        Usage: when nothing can be checked.
        Stop: when the hub refuses or cannot be reached before anything could be checked.
    """
    if config.levels is not None and not config.levels:
        raise Usage(f"levels is empty; choose from {', '.join(LEVELS)}, or leave it out")
    trust = signature.trusted(config)
    requested: tuple[str, ...] = config.levels or (
        *(name for name in _ALWAYS if name != "weights" or config.source is not None),
        *(("signature",) if trust is not None else ()),
    )
    if "signature" in requested and trust is None:
        raise Usage(f"levels=[signature] needs {_NEEDS['signature']}: who should have signed it?")
    for name in sorted({"samples", "calibration", "signature"} & set(requested)):
        if name != "signature":
            require(f"levels=[{name}]", "quantize", "; or leave that level out")
        if HubAddress in (type(config.checkpoint), type(config.source)):
            raise Usage(
                f"levels=[{name}] needs local folders: verify the rest with keep=true, then pass what it kept"
            )
    with opened(config, requested) as places:
        return _checked(config, requested, places, trust)


def _is_kept(target: Path, outcome: Verification, console: Console) -> bool:
    """Whether the report at `target` proves more of the same checkpoint, and so is not replaced."""
    more = proves_more(target, outcome)
    if more:
        console.print(
            f"report: {shown(target)} is kept as it was: it also proves {' and '.join(more)}; for one of "
            "this run give report=FILE",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    return bool(more)


def judged(checkpoint: Path, levels: tuple[str, ...]) -> Verification:
    """The outcome of some levels over a local folder; nothing is written or shown.

    Raises:
        Usage: when the folder does not exist.
    """
    config = VerifyConfig.model_validate(
        {"checkpoint": checkpoint, "source": None, "levels": levels, "report": None}
    )
    with opened(config, levels) as places:
        return _checked(config, levels, places)[0]


def _checked(
    config: VerifyConfig, requested: tuple[str, ...], places: Places, trust: Trust | None = None
) -> tuple[Verification, list[Level]]:
    """The outcome of every level, one after the other or, where shards come and go, side by side."""
    folder = places.checkpoint
    threads = cores()
    from_source = {"structure", "weights", "calibration"}
    source, refused = _source(places.source) if from_source & set(requested) else (None, None)
    seal = integrity.Seal(folder)
    hashed = None
    if {"integrity", "weights"} <= set(requested) and source is not None and not places.streams:
        hashed = seal.digests()

    def check_integrity() -> Level:
        if "checkpoint" in places.streams and seal.body is None and seal.finding is None:
            return hub_digests.check(places.streams["checkpoint"])
        return integrity.check(folder, seal, threads, hashed)

    def check_structure() -> Level:
        level = structure.check(folder, source, seal.body, places.passing)
        level.unchecked += [refused] if refused and config.source is not None else []
        return level

    def check_weights() -> Level:
        if source is None:
            return Level("weights", unchecked=[refused or "it needs source=DIR"])
        given = config.scales == "given"
        return weights.check(folder, source, threads, seal.body, given, places.passing, hashed)

    def check_signature() -> Level:
        if trust is None:
            return Level("signature", unchecked=[f"it needs {_NEEDS['signature']}"])
        return signature.check(folder, seal, trust, config.signature, threads)

    checks: dict[str, Callable[[], Level]] = {
        "integrity": check_integrity,
        "structure": check_structure,
        "weights": check_weights,
        "samples": lambda: recomputed_levels.check_samples(folder, config, seal.body),
        "calibration": lambda: recomputed_levels.check_calibration(
            folder, source, refused, config, seal.body
        ),
        "signature": check_signature,
    }
    timed = {
        name: partial(_timed, name, checks[name], places, source) for name in LEVELS if name in requested
    }
    if hashed is not None:  # it has what is left to hash then
        timed["integrity"] = timed.pop("integrity")
    with hashed.ahead() if hashed is not None and threads > 1 else nullcontext():
        done = (
            side_by_side(timed, places)
            if places.streams
            else {name: check() for name, check in timed.items()}
        )
    levels = [
        done[name] if name in done else Level(name, not_requested=_not_requested(name, config))
        for name in LEVELS
    ]
    addresses = places.identities()
    kernels = nvfp4.kernels() if source is not None and "weights" in requested else None
    made = _maker(folder, levels) if config.identify else None
    return report.document(levels, seal.identity(), kernels=kernels, maker=made, **addresses), levels


def _maker(folder: Path, levels: list[Level]) -> dict[str, Any]:
    """Who wrote it, for the report."""
    try:
        return maker.named(folder, next((level for level in levels if level.name == "weights"), None))
    except (Stop, OSError, MemoryError) as error:
        return {"program": None, "evidence": [one_line(error, checkpoint=folder)], "labels": []}


def _show_maker(made: Maker, console: Console) -> None:
    program = made.program or "not known: its bytes fit no program, or several"
    console.print(on_one_line(f"made by: {program}"), markup=False, soft_wrap=True)
    for line in [*made.evidence, *(f"label: {label}" for label in made.labels)]:
        console.print(on_one_line(f"  {line}"), markup=False, soft_wrap=True)


def _timed(name: str, check: Callable[[], Level], places: Places, source: Source | None) -> Level:
    started = time.perf_counter()
    known = {"checkpoint": places.checkpoint} | ({"source": source.path} if source else {})
    try:
        level = check()
    except (Stop, OSError, MemoryError, Lost) as error:
        level = Level(name, unchecked=[one_line(error, **known)])
    finally:
        places.leave(name)
    level.seconds = time.perf_counter() - started
    return level


def _not_requested(name: str, config: VerifyConfig) -> str:
    needs = _NEEDS[name]
    if name == "weights" and config.source is not None:
        needs = "no more than the source given"
    return f"needs {needs}"


def _source(path: Path | None) -> tuple[Source | None, str | None]:
    """The source, or why it cannot be used; neither when none was given."""
    if path is None:
        return None, None
    try:
        return Source(path), None
    except (Stop, OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        return None, f"source: {one_line(error, source=path)}"


def report_path(config: VerifyConfig) -> Path:
    """Where the report goes. Raises Usage as `places.report_paths`."""
    return report_paths(config)[0]


api.make_callable(__name__)  # `from proofcard import verify` is this package, and a function
