"""`tasks`: the same questions put to two servers, and whether the second is as good as the first."""

from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.benchmark import results
from proofcard.config import compose
from proofcard.config.tasks import Tasks, TasksConfig
from proofcard.documents.tasks import TasksReport
from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.progress import shown
from proofcard.reports import markdown, show
from proofcard.serve.target import Reachable, check, reached
from proofcard.tasks import paired, report
from proofcard.tasks.asking import Repeats, ask_all, rehearse
from proofcard.tasks.judging import judged
from proofcard.tasks.resuming import done, place
from proofcard.tracking import Tracker
from proofcard.tracking_headlines import of_tasks

NUMBERS = "tasks.json"
_STATUS = {"ACCEPT": 0, "REGRESSION": 1, "INCONCLUSIVE": 3}


def run(overrides: list[str]) -> int:
    """Compose, check, ask both, judge, show. Returns 0 for ACCEPT, 1 for REGRESSION, 3 for INCONCLUSIVE.

    Raises:
        Usage: when nothing can be asked as configured.
        Stop: when a server or the harness fails.
    """
    config = compose(TasksConfig, "tasks", overrides)
    folder, result = execute(config)
    tables = partial(show, report.sections(result))
    outcome.present(result, tables, f"report, numbers and answers: {shown(folder)}")
    return _STATUS[result.verdict]


def execute(config: TasksConfig) -> tuple[Path, TasksReport]:
    """Ask one after the other; the folder of the results and the report. Raises as `run` does."""
    program("bench", "python")
    _check_data(config.tasks)
    rehearse(config)
    sides = {
        side: check(getattr(config, side), config.serving, config.work_dir, f"{side}.")
        for side in ("reference", "candidate")
    }
    home = config.work_dir / "tasks"
    with (
        tracking.opened(
            config.tracking,
            "tasks",
            config.work_dir,
            subject=sides["candidate"].subject,
            name=f"tasks {config.tasks.name}",
        ) as tracker,
        results.new_folder(home, config.tasks.name) as folder,
    ):
        tracker.params({"tasks": config.tasks.identity(), "policy": config.policy.identity()})
        tracker.tags({f"{side}.{name}": value for side, server in sides.items() for name, value in
                      (("server", server.label), ("key", server.key or "unknown"))})  # fmt: skip
        kept = {side: place(config, getattr(config, side), server) for side, server in sides.items()}
        answers: dict[str, dict[str, Repeats]] = {}
        harness = ""
        for side, server in sides.items():
            with tracker.stage(side), reached(server, tracker, side) as endpoint:
                harness, answers[side] = ask_all(config, endpoint, folder, side, kept[side])
        result = _report(config, sides, harness, answers)
        _leave(folder, result, tracker)
        done(list(kept.values()))
    return results.final(folder), result


def _check_data(tasks: Tasks) -> None:
    """Raises Usage for a folder of tasks or data that does not exist."""
    if tasks.include is not None and not tasks.include.is_dir():
        raise Usage(f"tasks.include={tasks.include} is not a folder with task files")
    for name, task in tasks.chosen().items():
        if task.path is not None and not task.path.exists():
            raise Usage(
                f"tasks.tasks.{name}.path={task.path} does not exist: it should be the folder of its dataset"
            )


def _report(
    config: TasksConfig,
    sides: dict[str, Reachable],
    harness: str,
    answers: dict[str, dict[str, Repeats]],
) -> TasksReport:
    done = {
        name: judged(name, config, answers["reference"][name], answers["candidate"][name])
        for name in config.tasks.chosen()
    }
    return TasksReport(
        name=config.tasks.name,
        verdict=paired.overall([each.verdict for each in done.values()]),
        reference=sides["reference"].described(config.serving),
        candidate=sides["candidate"].described(config.serving),
        harness=f"lm-eval {harness}",
        sampling=config.tasks.sampling.identity(),
        policy=config.policy.identity(),
        tasks=done,
        not_run={
            name: task.why or "left out by tasks.only"
            for name, task in config.tasks.tasks.items()
            if name not in done
        },
    )


def _leave(folder: Path, result: TasksReport, tracker: Tracker) -> None:
    """The report into its folder and the tracked run."""
    page = "\n".join([f"# {result.name}: {result.verdict}", "", *markdown(report.sections(result))]) + "\n"
    results.leave(folder, NUMBERS, result, page, tracker, "tasks")
    for name, each in result.tasks.items():
        questions = tracker.data(f"{name}_questions", each.prompts, "tasks", questions=str(each.questions))
        tracker.metrics(
            {f"{name}/reference": each.reference.value, f"{name}/candidate": each.candidate.value}
        )
    tracker.headlines(of_tasks(result), questions if len(result.tasks) == 1 else None)
    tracker.numbers(report.numbers(result), "tasks/numbers.json")
    tracker.tags({"verdict": result.verdict})
