"""`benchmark`: throughput and latency of a served checkpoint, and what speaks against the figures."""

import shutil
from pathlib import Path
from typing import Any

from proofcard import tracking
from proofcard.benchmark import figure, report, results
from proofcard.benchmark.measure import begun, measure, prepared, settled
from proofcard.benchmark.points import Point
from proofcard.benchmark.report import Series
from proofcard.benchmark.results import Results
from proofcard.config import compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.config.compose import flatten
from proofcard.environments import program
from proofcard.errors import Usage, one_line
from proofcard.progress import shown
from proofcard.reports import differing, show
from proofcard.screen import Screen
from proofcard.serve import truth

_FIGURE = "throughput.png"


def run(overrides: list[str]) -> int:
    """Compose, measure, write and show. Returns 0.

    Raises:
        Usage: when nothing can be measured as asked.
        Stop: when the server or the client fails.
    """
    config = compose(BenchmarkConfig, "benchmark", overrides)
    folder, found, beside = execute(config)
    show(report.sections(found, beside), Screen())
    Screen().print(f"report and numbers: {shown(folder)}", soft_wrap=True)
    return 0


def execute(config: BenchmarkConfig) -> tuple[Path, Results, list[Series]]:
    """Measure; the folder of the results, the numbers, and what stands beside them. Raises as `run` does."""
    config = settled(config)
    found = begun(config)
    stand = config.work_dir / "benchmarks"
    beside = _beside(config, found, stand)
    program("bench", "aiperf")
    truth.prepare(config.truth)
    first = prepared(config)
    with (
        tracking.opened(config.tracking, f"benchmark {found['name']}", config.work_dir) as tracker,
        results.standing(stand, found["name"]) as folder,
    ):
        tracker.params({"benchmark": found["load"]})
        try:
            measure(config, first, folder, found, tracker)
        finally:
            if found["levels"]:
                _tell(folder, found, beside, tracker)
        for each in folder.glob("client-*"):
            shutil.rmtree(each)
    return results.final(folder), found, beside


def _beside(config: BenchmarkConfig, found: Results, stand: Path) -> list[Series]:
    """Earlier results of ours and published ones, checked before anything is started."""
    series = []
    path = config.against or results.earlier(stand, found["name"], found["load"])
    if path is not None:
        before = results.read(path)
        try:
            differs = [each.name for each in differing(_configured(before), _configured(found))]
            series.append(report.of_earlier(path.name, before, differs))
        except (LookupError, TypeError, AttributeError) as error:
            raise Usage(f"{path} holds results that are not whole: {one_line(error)}") from None
    return series + [report.of_published(each) for each in results.published(config.benchmark.beside)]


def _configured(found: Results) -> dict[str, Any]:
    """What decides the figures, as flat values."""
    checkpoint = {"key": found["server"]["key"], "model": found["server"].get("model")}
    return flatten({"load": found["load"], "serving": found["serving"] or {}, "checkpoint": checkpoint})


def _tell(folder: Path, found: Results, beside: list[Series], tracker: tracking.Tracker) -> None:
    """Report and figure into the folder, and all of it to MLflow: curves over users, a nested run each."""
    results.write(folder, results.PAGE, report.page(found, report.sections(found, beside)))
    figure.throughput(found, beside).savefig(folder / _FIGURE)
    for level in found["levels"]:
        numbers = _numbers(level)
        tracker.metrics(numbers, step=level["users"])
        with tracker.stage(f"{level['users']:03d} users"):
            tracker.params({"users": level["users"], "doubts": "; ".join(level["doubts"])})
            tracker.metrics(numbers)
    for name in (results.NUMBERS, results.PAGE, _FIGURE):
        tracker.file(folder / name, "benchmark")


def _numbers(level: Point) -> dict[str, float]:
    found = {
        name: value["mean"] for name, value in level.items() if isinstance(value, dict) and "mean" in value
    }
    if "tokens_per_s" in level:
        found |= {f"tokens_per_s_{end}": level["tokens_per_s"][end] for end in ("least", "most")}
    if "client" in level:
        found["client_share"] = level["client"]["share"]
    return found | {"failed": float(level["failed"]), "doubts": float(len(level["doubts"]))}
