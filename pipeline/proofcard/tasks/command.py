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
    folder, found = execute(config)
    tables = partial(show, report.sections(found))
    outcome.present(found, tables, f"report, numbers and answers: {shown(folder)}")
    return _STATUS[found.verdict]


def execute(config: TasksConfig) -> tuple[Path, TasksReport]:
    """Ask one after the other; the folder of the results and the report. Raises as `run` does."""
    program("bench", "python")
    _check_data(config.tasks)
    rehearse(config)
    sides = {
        side: check(getattr(config, side), config.serving, config.work_dir, f"{side}.")
        for side in ("reference", "candidate")
    }
    stand = config.work_dir / "tasks"
    with (
        tracking.opened(
            config.tracking,
            "tasks",
            config.work_dir,
            subject=sides["candidate"].subject,
            name=f"tasks {config.tasks.name}",
        ) as tracker,
        results.new_folder(stand, config.tasks.name) as folder,
    ):
        tracker.params({"tasks": config.tasks.identity(), "policy": config.policy.identity()})
        tracker.tags({f"{side}.{name}": value for side, server in sides.items() for name, value in
                      (("server", server.told), ("key", server.key or "unknown"))})  # fmt: skip
        answers: dict[str, dict[str, Repeats]] = {}
        harness = ""
        for side, server in sides.items():
            with tracker.stage(side), reached(server, tracker, side) as endpoint:
                harness, answers[side] = ask_all(config, endpoint, folder, side)
        found = _report(config, sides, harness, answers)
        _leave(folder, found, tracker)
    return results.final(folder), found


def _check_data(tasks: Tasks) -> None:
    """Raises Usage for a folder of tasks or data that does not exist."""
    if tasks.include is not None and not tasks.include.is_dir():
        raise Usage(f"tasks.include={tasks.include} is not a folder with task files")
    for name, task in tasks.chosen().items():
        if task.path is not None and not task.path.exists():
            raise Usage(f"tasks.tasks.{name}.path={task.path} does not exist: give the folder of its dataset")


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


def _leave(folder: Path, found: TasksReport, tracker: Tracker) -> None:
    """The report into its folder and the tracked run."""
    page = "\n".join([f"# {found.name}: {found.verdict}", "", *markdown(report.sections(found))]) + "\n"
    results.leave(folder, NUMBERS, found, page, tracker, "tasks")
    for name, each in found.tasks.items():
        questions = tracker.data(f"{name}_questions", each.prompts, "tasks", questions=str(each.questions))
        tracker.metrics(
            {f"{name}/reference": each.reference.value, f"{name}/candidate": each.candidate.value}
        )
    tracker.headlines(of_tasks(found), questions if len(found.tasks) == 1 else None)
    tracker.numbers(report.numbers(found), "tasks/numbers.json")
    tracker.tags({"verdict": found.verdict})
