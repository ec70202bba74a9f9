"""`analyse`: a sealed checkpoint's calibration, as tables, figures and numbers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import manifest, outcome, stage, tracking
from proofcard.analyse import figures, measure, report
from proofcard.config import AnalyseConfig, compose
from proofcard.documents.analysis import Analysis, Origin
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, before_work
from proofcard.files import check_handed, exists
from proofcard.pasted import command
from proofcard.quantize import plots, sealed_tables, tables
from proofcard.quantize.statistics import CalibrationStatistics
from proofcard.reports import place, show
from proofcard.tracking import Tracker
from proofcard.tracking_home import store_of

NUMBERS = "analysis.json"


def run(overrides: list[str]) -> int:
    """Compose, analyse, write and show. Returns 0.

    Raises:
        Usage: when there is nothing to analyse or the report cannot be written; nothing was done.
    """
    config = compose(AnalyseConfig, "analyse", overrides)
    with before_work():
        sealed, found = _read(config.checkpoint)
        target = place(config.report, config.checkpoint, "analysis", NUMBERS, config.work_dir)
        analysis = analysed(sealed, found)
    drawn = drawings(found)
    sections = report.sections(analysis)
    subject = tracking.of_sealed(sealed)
    with tracking.opened(
        store_of(config.checkpoint, config.tracking, config.work_dir),
        "analyse",
        config.work_dir,
        subject=subject,
    ) as tracker:
        _track(tracker, analysis)
        outcome.deliver_folder(
            analysis, target, NUMBERS, partial(show, sections), tracker, "analysis",
            page=report.page(sections, list(drawn), str(sealed.recipe)), figures=drawn,
        )  # fmt: skip
    return 0


def _read(folder: Path) -> tuple[Manifest, CalibrationStatistics]:
    """A checkpoint's manifest and statistics, after checking every byte against the seal."""
    if not folder.is_dir():
        raise Stop(f"{folder} is not a folder: use the checkpoint of a `quantize` run")
    check_handed(folder)
    sealed = manifest.read(folder)
    if sealed.stage != "quantize":
        raise Stop(f"{folder} is the result of `{sealed.stage}`, not a checkpoint")
    stage.intact(folder)
    for name in (tables.AMAX, tables.DATASETS, tables.COVERAGE):
        if exists(folder / name) and name not in sealed.outputs.files:
            raise Stop(f"{folder / name} was not sealed: see {command('verify', checkpoint=folder)}")
    return sealed, sealed_tables.read(folder, sealed.statistics.get("positions", 0))


def analysed(sealed: Manifest, found: CalibrationStatistics) -> Analysis:
    """The answers to all questions."""
    return Analysis(
        checkpoint=Origin(key=sealed.key, recipe=sealed.recipe),
        samples=found.samples[-1],
        bytes=measure.calibrated_bytes(sealed.outputs.tensors),
        convergence=measure.convergence(found),
        datasets=measure.datasets(found),
        coverage=measure.coverage(found),
        forcing=measure.forcing(found),
    )


def drawings(found: CalibrationStatistics) -> dict[str, Callable[[], Any]]:
    """The figures for which there is data, by name."""
    drawn: dict[str, Callable[[], Any]] = {
        name: partial(draw, found) for name, draw in plots.figures(found).items()
    }
    drawn["datasets"] = partial(figures.datasets, found)
    if found.experts:
        drawn["routing"] = partial(figures.routing, found)
        if any(block.forced.any() for block in found.experts):
            drawn["forcing"] = partial(figures.forcing, found)
    return drawn


def _track(tracker: Tracker, analysis: Analysis) -> None:
    tracker.metrics({"calibrated_share": analysis.bytes.share})
    if analysis.coverage is not None:
        names = ("smallest", "tenth_percentile", "median", "mean", "largest", "zipf")
        spread = {name: getattr(analysis.coverage, name) for name in names}
        tracker.table([{"positions per expert": name, "value": each} for name, each in spread.items()],
                      "analysis/coverage.json")  # fmt: skip
