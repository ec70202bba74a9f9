"""`analyse`: what a sealed checkpoint's calibration was worth, as tables, figures and numbers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import manifest, stage, tracking
from proofcard.analyse import figures, measure, report
from proofcard.config import AnalyseConfig, compose
from proofcard.digest import readable_json
from proofcard.errors import Stop, before_work
from proofcard.files import check_handed, exists
from proofcard.progress import shown
from proofcard.quantize import plots, sealed_tables, tables
from proofcard.quantize.statistics import Found
from proofcard.reports import place, show, writing
from proofcard.screen import Screen
from proofcard.tracking import Tracker

SCHEMA = "proofcard/analysis/1"
NUMBERS = "analysis.json"


def run(overrides: list[str]) -> int:
    """Compose, analyse, write and show. Returns 0.

    Raises:
        Usage: when there is nothing to analyse or the report has nowhere to stand; nothing was done then.
    """
    config = compose(AnalyseConfig, "analyse", overrides)
    with before_work():
        sealed, found = _read(config.checkpoint)
        other = _read(config.against)[1] if config.against is not None else None
        target = place(config.report, config.checkpoint, "analysis", NUMBERS)
        told = _numbers(sealed, found, other)
    drawn = _figures(found)
    sections = report.sections(told)
    recipe = str(manifest.recipe_name(sealed))
    with (
        tracking.opened(config.tracking, recipe, config.work_dir) as tracker,
        tracker.stage("analyse"),
    ):
        _write(target, told, report.page(sections, list(drawn), recipe), drawn)
        _track(tracker, told, target, drawn)
    console = Screen()
    show(sections, console)
    console.print(f"figures and numbers: {shown(target)}", soft_wrap=True)
    return 0


def _read(folder: Path) -> tuple[dict[str, Any], Found]:
    """A checkpoint's manifest and its tables; every byte of it, weights too, must be what was sealed."""
    if not folder.is_dir():
        raise Stop(f"{folder} is no folder: give the checkpoint of a `quantize` run")
    check_handed(folder)
    sealed = manifest.read(folder)
    if sealed["stage"] != "quantize":
        raise Stop(f"{folder} is the result of `{sealed['stage']}`, not a checkpoint")
    stage.intact(folder)
    for name in (tables.AMAX, tables.DATASETS, tables.COVERAGE):
        if exists(folder / name) and name not in sealed["outputs"]["files"]:
            raise Stop(f"{folder / name} was not sealed: see proofcard verify checkpoint={folder}")
    return sealed, sealed_tables.read(folder, sealed["statistics"].get("positions", 0))


def _numbers(sealed: dict[str, Any], found: Found, other: Found | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "checkpoint": {"key": sealed["key"], "recipe": manifest.recipe_name(sealed)},
        "samples": found.samples[-1],
        "bytes": measure.calibrated_bytes(sealed["outputs"]["tensors"]),
        "convergence": measure.convergence(found),
        "datasets": measure.datasets(found),
        "coverage": measure.coverage(found),
        "forcing": measure.forcing(found),
        "against": measure.against(found, other) if other is not None else {},
    }


def _figures(found: Found) -> dict[str, Callable[[], Any]]:
    drawn: dict[str, Callable[[], Any]] = {
        name: partial(draw, found) for name, draw in plots.figures(found).items()
    }
    drawn["datasets"] = partial(figures.datasets, found)
    if found.experts:
        drawn["routing"] = partial(figures.routing, found)
        if any(block.forced.any() for block in found.experts):
            drawn["forcing"] = partial(figures.forcing, found)
    return drawn


def _write(target: Path, told: dict[str, Any], page: str, drawn: dict[str, Callable[[], Any]]) -> None:
    with writing(target) as fresh:
        for name, draw in drawn.items():
            draw().savefig(fresh / f"{name}.png")
        (fresh / "report.md").write_text(page, encoding="utf-8")
        (fresh / NUMBERS).write_text(readable_json(told), encoding="utf-8")


def _track(tracker: Tracker, told: dict[str, Any], target: Path, drawn: dict[str, Callable[[], Any]]) -> None:
    tracker.tags({"key": told["checkpoint"]["key"]})
    tracker.metrics({"calibrated_bytes": told["bytes"]["bytes"], "calibrated_share": told["bytes"]["share"]})
    if told["coverage"]:
        names = ("smallest", "tenth_percentile", "median", "mean", "largest", "zipf")
        tracker.metrics({f"routed/{name}": told["coverage"][name] for name in names})
    for name in drawn:
        tracker.file(target / f"{name}.png", "plots")
    for name in ("report.md", NUMBERS):
        tracker.file(target / name, "analysis")
