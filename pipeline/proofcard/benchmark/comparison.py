"""`benchmark -m`: measures several configurations in turn, with one table of all, failures included."""

from functools import partial
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from proofcard import outcome, tracking
from proofcard.benchmark import results
from proofcard.benchmark.command import execute
from proofcard.config import compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.config.spelling import spelled, unescaped
from proofcard.documents.benchmark import Configurations, Rate, Row
from proofcard.errors import Stop, Usage, one_line
from proofcard.progress import console, shown
from proofcard.redact import redact
from proofcard.reports import Section, markdown, show

_NAME = "comparison"


def run(overrides: list[str]) -> int:
    """Measure each combination of the swept values. Returns 0, or 1 when none could be measured.

    Raises:
        Usage: before anything is started, when one of them is not a valid configuration.
    """
    jobs = _jobs(overrides)
    configs = [compose(BenchmarkConfig, "benchmark", job) for job in jobs]
    swept = [word for word in jobs[0] if any(word not in job for job in jobs)]
    keys = [word.partition("=")[0] for word in swept]
    rows: list[Row] = []
    with results.new_folder(configs[0].work_dir / "benchmarks", _NAME) as folder:
        for number, (job, config) in enumerate(zip(jobs, configs, strict=True), 1):
            label = ", ".join(_short(word) for word in job if word.partition("=")[0] in keys) or "as given"
            console.print(f"{number} of {len(jobs)}: {label}")
            rows.append(_measured(config, label, job))
            sections = [table(rows), *reasons(rows)]
            document = Configurations(rows=rows)
            results.save(folder, document)
            results.write(folder, results.PAGE, "\n".join(["# Comparison", "", *markdown(sections)]) + "\n")
        _track(configs[0], folder, rows)
    outcome.present(document, partial(show, sections), f"report and numbers: {shown(results.final(folder))}")
    return 0 if any(row.rates for row in rows) else 1


def _jobs(overrides: list[str]) -> list[list[str]]:
    words = [word for word in overrides if word not in ("-m", "--multirun")]
    words = spelled(BenchmarkConfig, words, sweeps=True)
    try:
        parsed = OverridesParser.create().parse_overrides(words)
        return [unescaped(list(job)) for job in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]]
    except HydraException as error:
        raise Usage(one_line(error)) from None


def _measured(config: BenchmarkConfig, label: str, job: list[str]) -> Row:
    """The outcome of one configuration; a server that refuses or fails is an outcome, too."""
    try:
        folder, measured_results, _ = execute(config)
    except Stop as stop:
        refused = isinstance(stop, Usage)
        return Row(configuration=label, overrides=job, failed=redact(str(stop)), refused=refused)
    return Row(
        configuration=label,
        overrides=job,
        results=folder.name,
        rates=[
            Rate(users=level.users, tokens_per_s=level.tokens_per_s.mean)
            for level in measured_results.levels
            if level.tokens_per_s is not None
        ],
        doubted=[level.users for level in measured_results.levels if level.doubts],
    )


def table(rows: list[Row]) -> Section:
    """One line per configuration: tokens/s per user, the maximum throughput, and the difference."""
    measured = [_by_users(row) for row in rows if row.rates]
    lines = []
    for row in rows:
        of = _by_users(row)
        if not of:
            lines.append([row.configuration, "–", "–", "–", _outcome(row)])
            continue
        least, peak = min(of), max(of, key=lambda users: of[users])
        base = measured[0].get(least)
        against = f"{100 * (of[least] / base - 1):+.1f}%" if base and of != measured[0] else ""
        most = f"{of[peak]:.1f} at {peak}"
        lines.append([row.configuration, f"{of[least]:.1f} at {least}", most, against, _outcome(row)])
    text = (
        "Tokens/s at the lowest number of users, and the maximum throughput with its number of users; the "
        "difference is at the lowest number of users, relative to the first configuration."
    )
    return Section("Configurations", text, ["", "tokens/s", "maximum", "difference", ""], lines)


def reasons(rows: list[Row]) -> list[Section]:
    """Why some configurations have no figures."""
    lines = [[row.configuration, row.failed.splitlines()[0]] for row in rows if row.failed]
    return [Section("Not measured", f"{len(lines)} of {len(rows)}.", ["", "why"], lines)] if lines else []


def _by_users(row: Row) -> dict[int, float]:
    return {rate.users: rate.tokens_per_s for rate in row.rates}


def _outcome(row: Row) -> str:
    if row.failed:
        text = "refused" if row.refused else "failed"
        return "out of memory" if "out of memory" in row.failed else text
    return f"doubtful at {', '.join(map(str, row.doubted))}" if row.doubted else ""


def _short(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key.lstrip('+').rpartition('.')[2]}={value}".replace("\\", "")


def _track(config: BenchmarkConfig, folder: Path, rows: list[Row]) -> None:
    with tracking.opened(
        config.tracking, "benchmark", config.work_dir, name="benchmark comparison"
    ) as tracker:
        for number, row in enumerate(rows, 1):
            for rate in row.rates:
                name = f"by_users/tokens_per_s_of_{number}"
                tracker.metrics({name: rate.tokens_per_s}, step=rate.users)
            tracker.tags({f"configuration_{number}": row.configuration})
        for name in (results.NUMBERS, results.PAGE):
            tracker.file(folder / name, "comparison")
