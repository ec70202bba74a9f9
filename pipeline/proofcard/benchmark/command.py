"""`benchmark`: throughput and latency of a served checkpoint, with doubts about the figures."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from proofcard import outcome, tracking
from proofcard.benchmark import figure, report, results
from proofcard.benchmark.measure import Measurement, begun, by_users, measure, prepared, resolved
from proofcard.benchmark.report import Series
from proofcard.config import compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.config.compose import flatten
from proofcard.documents.benchmark import Level, Results
from proofcard.environments import program
from proofcard.progress import shown
from proofcard.reports import differing, show
from proofcard.serve import truth
from proofcard.tracking_headlines import of_benchmark

_FIGURE = "throughput.png"


def run(overrides: list[str]) -> int:
    """Compose, measure, write and show. Returns 0.

    Raises:
        Usage: when nothing can be measured as requested.
        Stop: when the server or the client fails.
    """
    config = compose(BenchmarkConfig, "benchmark", overrides)
    folder, found, beside = execute(config)
    tables = partial(show, report.sections(found, beside))
    outcome.present(found, tables, f"report and numbers: {shown(folder)}")
    return 0


def execute(config: BenchmarkConfig) -> tuple[Path, Results, list[Series]]:
    """Measure; returns the folder of the results, the numbers, and other series. Raises as `run`."""
    config = resolved(config)
    empty = begun(config)
    stand = config.work_dir / "benchmarks"
    beside = _beside(config, empty, stand)
    program("bench", "aiperf")
    truth.prepare(config.truth)
    first = prepared(config)
    subject = tracking.subject_of(config.checkpoint) if config.checkpoint is not None else None
    run = tracking.opened(config.tracking, "benchmark", config.work_dir, subject=subject, name=_title(config))
    with run as tracker, results.new_folder(stand, empty.name) as folder:
        tracker.params({"benchmark": empty.load})
        found = Measurement(empty, folder)
        try:
            measure(config, first, found, tracker)
        finally:
            if found.results.levels:
                _tell(folder, found.results, beside, tracker)
        for each in folder.glob("client-*"):
            shutil.rmtree(each)
    return results.final(folder), found.results, beside


def _title(config: BenchmarkConfig) -> str:
    """The name of the tracked run: engine's profile or model, and the load."""
    what = config.serving.name if config.serving is not None else config.model
    return f"benchmark {what} {config.benchmark.name}"


def _beside(config: BenchmarkConfig, found: Results, stand: Path) -> list[Series]:
    """Our earlier results and published ones, checked before anything is started."""
    series = []
    path = config.against or results.earlier(stand, found.name, found.load)
    if path is not None:
        before = results.read(path)
        differs = [each.name for each in differing(_configured(before), _configured(found))]
        series.append(report.of_earlier(path.name, before, differs))
    return series + [report.of_published(each) for each in results.published(config.benchmark.beside)]


def _configured(found: Results) -> dict[str, Any]:
    """The configuration that determines the figures, as flat values."""
    checkpoint = {"key": found.server.key, "model": found.server.model}
    return flatten({"load": found.load, "serving": found.serving or {}, "checkpoint": checkpoint})


def _tell(folder: Path, found: Results, beside: list[Series], tracker: tracking.Tracker) -> None:
    """Write report and figure to the folder, and track curves over users and a table with every number."""
    results.write(folder, results.PAGE, report.page(found, report.sections(found, beside)))
    figure.throughput(found, beside).savefig(folder / _FIGURE)
    rows: list[dict[str, Any]] = []
    for level in found.levels:
        numbers = _numbers(level)
        rows.append({"users": level.users} | numbers | {"doubts": "; ".join(level.doubts)})
        tracker.metrics(by_users(numbers), step=level.users)
    tracker.table(rows, "benchmark/levels.json")
    prompts = None
    if found.prompts_sha256 is not None:
        prompts = tracker.data("benchmark_prompts", found.prompts_sha256, "benchmark")
    tracker.headlines(of_benchmark(found), prompts)
    for name in (results.NUMBERS, results.PAGE, _FIGURE):
        tracker.file(folder / name, "benchmark")


def _numbers(level: Level) -> dict[str, float]:
    numbers = {name: spread.mean for name, spread in level.figures().items()}
    if level.tokens_per_s is not None:
        numbers["tokens_per_s_least"], numbers["tokens_per_s_most"] = (
            level.tokens_per_s.least, level.tokens_per_s.most
        )  # fmt: skip
    if level.client is not None:
        numbers["client_share"] = level.client.share
    return numbers | {"failed": float(level.failed)}
