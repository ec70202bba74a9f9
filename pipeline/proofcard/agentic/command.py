"""`agentic`: a program built through tool calls, task by task, by the model behind a server."""

import os
from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.agentic import report
from proofcard.benchmark import results
from proofcard.config import compose
from proofcard.config.agentic import AgenticConfig
from proofcard.digest import sha256_json
from proofcard.documents.agentic import AgenticReport, Build
from proofcard.documents.tasks import Range
from proofcard.extras import require
from proofcard.progress import shown
from proofcard.reports import markdown, show
from proofcard.sandbox import announce
from proofcard.scratch import private_folder
from proofcard.serve.target import Reachable, check, reached
from proofcard.tasks import paired
from proofcard.tracking import Tracker

NUMBERS, LOGS = "agentic.json", "inspect"
_CONFIDENCE = 0.95


def run(overrides: list[str]) -> int:
    """Compose, check, build, score, show. Returns 1 when a run passed fewer tasks than `at_least`, else 0.

    Raises:
        Usage: when nothing can be built as configured.
        Stop: when the server fails.
    """
    config = compose(AgenticConfig, "agentic", overrides)
    folder, result = execute(config)
    tables = partial(show, report.sections(result))
    logs = f"conversations: inspect view --log-dir {shown(folder / LOGS)}"
    outcome.present(result, tables, f"report and numbers: {shown(folder)}; {logs}")
    fewest = min(build.passed for build in result.runs)
    return 1 if config.agentic.at_least is not None and fewest < config.agentic.at_least else 0


def execute(config: AgenticConfig) -> tuple[Path, AgenticReport]:
    """Build; the folder of the results and the report. Raises as `run` does."""
    require("this command", "agentic")
    announce(config.agentic.sandbox, "agentic.sandbox")
    server = check(config, config.serving, config.work_dir)
    with (
        tracking.opened(
            config.tracking,
            "agentic",
            config.work_dir,
            subject=server.subject,
            name=f"agentic {config.agentic.name}",
        ) as tracker,
        results.new_folder(config.work_dir / "agentic", config.agentic.name) as folder,
    ):
        settings = config.agentic.model_dump(mode="json", exclude={"specification", "tasks"})
        tracker.params({"agentic": settings | {"specification_sha256": _digest(config)}})
        tracker.tags({"server": server.label, "key": server.key or "unknown"})
        with reached(server, tracker) as endpoint:
            _keep_inspect_to_itself()
            from proofcard.agentic.building import build

            runs = build(endpoint, config.agentic, folder / LOGS)
        result = _report(config, server, runs)
        _leave(folder, result, tracker)
    return results.final(folder), result


def _keep_inspect_to_itself() -> None:
    """Let inspect-ai take settings from us alone, and write into no folder but those that it is given.

    It would load a file `.env` of the working folder, or of any above it, into the environment.
    """
    for name in [each for each in os.environ if each.startswith("INSPECT_")]:
        del os.environ[name]
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    os.environ["XDG_DATA_HOME"] = str(private_folder("inspect"))


def _digest(config: AgenticConfig) -> str:
    """Of the specification, the tasks and their checks: what makes two results comparable."""
    settings = config.agentic.model_dump(mode="json")
    return sha256_json({name: settings[name] for name in ("specification", "tasks")})


def _report(config: AgenticConfig, server: Reachable, runs: list[Build]) -> AgenticReport:
    from proofcard.agentic.building import framework

    passed = [float(each.passed) for build in runs for each in build.tasks.values()]
    score = paired.score(passed, _CONFIDENCE)
    return AgenticReport(
        name=config.agentic.name,
        server=server.described(config.serving),
        specification=_digest(config),
        framework=framework(),
        sampling=config.agentic.sampling.identity(),
        turns=config.agentic.turns,
        max_tokens=config.agentic.max_tokens,
        confidence=_CONFIDENCE,
        score=Range(value=score.value, low=score.low, high=score.high),
        runs=runs,
    )


def _leave(folder: Path, result: AgenticReport, tracker: Tracker) -> None:
    """The report into its folder and the tracked run."""
    page = "\n".join([f"# Agentic: {result.name}", "", *markdown(report.sections(result))]) + "\n"
    results.leave(folder, NUMBERS, result, page, tracker, "agentic")
    tracker.metrics({"agentic_score": result.score.value})
    tracker.numbers(report.numbers(result), "agentic/numbers.json")
