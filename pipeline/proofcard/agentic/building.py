"""The runs: each task a fresh conversation of an agent of inspect-ai in the same workspace, then its checks.

inspect-ai has the agent's loop, its limits, the tools' errors and the log that `inspect view` shows.
"""

import logging
from importlib.metadata import version
from pathlib import Path

import anyio
from inspect_ai import Task, eval
from inspect_ai.agent import AgentState, react, run
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import LimitExceededError, sandbox, turn_limit

from proofcard.agentic.judging import judge
from proofcard.agentic.model import Asked, Server
from proofcard.agentic.tools import Use, toolbox
from proofcard.agentic.workspace import NAME, SPECIFICATION, Workspace
from proofcard.config.agentic import Agentic, BuildTask
from proofcard.documents.agentic import Build, BuiltTask, End
from proofcard.errors import Stop, one_line
from proofcard.progress import console
from proofcard.screen import quoted
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.wire import NoAnswer

FRAMEWORK = "inspect-ai"
_TOOLS = ("write_file", "read_file", "list_files", "run_python")
_REFUSED = (400, 413, 422)  # of one request, as for a conversation that has become too long
_PROMPT = (
    "You build a Python program, file by file, with the tools that you are given. Read {specification} and "
    "the files that are there before you write. Try out with run_python what you have written, and repair "
    "it. When the task is done, reply without calling a tool."
)


def build(endpoint: Endpoint, config: Agentic, logs: Path) -> list[Build]:
    """Every run; inspect-ai's logs are left in `logs`.

    Raises:
        Stop: when the server fails, or no program can be confined.
    """
    runs: list[Build] = []
    server = Server.of(endpoint, config)
    Workspace.weak = config.sandbox == "weak"
    logging.disable(logging.WARNING)
    (log,) = eval(
        Task(
            name=config.name,
            dataset=[Sample(id=config.name, input=config.specification)],
            solver=_builder(config, server, runs),
            scorer=_share(runs),
            sandbox=NAME,
        ),
        model=server.model(), epochs=config.runs, max_samples=1, display="none", log_dir=str(logs),
        log_format="eval", fail_on_error=True, ctl_server=False, acp_server=False, log_level="error",
    )  # fmt: skip
    logging.disable(logging.NOTSET)
    if server.failed is not None:
        raise Stop(f"the server failed: {server.failed}")
    if log.status != "success" or len(runs) != config.runs:
        why = log.error.message if log.error is not None else log.status
        raise Stop(f"the build was broken off: {one_line(Exception(why))[:400]}")
    return runs


@solver
def _builder(config: Agentic, server: Server, runs: list[Build]) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        server.run = state.epoch - 1
        workspace = sandbox().as_type(Workspace)
        await workspace.write_file(SPECIFICATION, config.specification)
        tasks: dict[str, BuiltTask] = {}
        for number, (name, task) in enumerate(config.tasks.items(), 1):
            asked = f"Task {number} of {len(config.tasks)} ({task.phase}): {task.prompt}"
            tasks[name] = await _build(config, server, workspace, number, asked, task)
            console.print(f"run {state.epoch}, {asked.partition(':')[0]}: {_summary(tasks[name])}")
        runs.append(await _finished(config, workspace, tasks))
        return state

    return solve


async def _build(
    config: Agentic, server: Server, workspace: Workspace, number: int, asked: str, task: BuildTask
) -> BuiltTask:
    """One task: the conversation, then the checks of what lies in the workspace."""
    server.asked, use = Asked(), Use()
    agent = react(
        prompt=_PROMPT.format(specification=SPECIFICATION),
        tools=toolbox(use),
        model=server.model(),
        submit=False,
    )
    refused, stopped = "", None
    try:
        _, stopped = await run(
            agent,
            AgentState(messages=[ChatMessageUser(content=asked)]),
            [turn_limit(config.turns)],
            name=task.phase,
        )
    except NoAnswer as error:
        if error.status not in _REFUSED or server.asked.replies == 0:
            server.failed = str(error)
            raise
        refused = str(error)
    end = _end(server.asked, stopped, refused)
    judged = await anyio.to_thread.run_sync(judge, task, workspace.folder, config.sandbox)
    why = _why(config, end, refused) or judged.why
    return BuiltTask(
        number=number,
        phase=task.phase,
        passed=not why,
        why=why,
        at_the_end=False,
        end=end,
        compiles=judged.compiles,
        replies=server.asked.replies,
        calls=server.asked.calls,
        unknown_tools=sum(name not in _TOOLS for name in server.asked.names),
        malformed=server.asked.malformed,
        failed_runs=use.failed_runs,
        repaired=use.repaired,
        tokens=server.asked.tokens,
    )


def _end(asked: Asked, stopped: LimitExceededError | None, refused: str) -> End:
    if refused:
        return "refused"
    if stopped is not None:
        return "too many replies"
    if asked.last in ("cut", "thinking"):
        return "cut" if asked.last == "cut" else "thinking"
    return "by itself" if asked.last == "answered" else "server"


def _why(config: Agentic, end: End, refused: str) -> str:
    """Why a task failed whatever its files are; empty where they decide."""
    return {
        "by itself": "",
        "too many replies": f"it went on after {config.turns} replies",
        "cut": f"its reply was cut after {config.max_tokens} tokens",
        "thinking": "its reply ended, or was cut, while thinking",
        "refused": f"the server refused to continue: {refused}",
        "server": "its reply was ended by the server",
    }[end]


async def _finished(config: Agentic, workspace: Workspace, tasks: dict[str, BuiltTask]) -> Build:
    """The run, with every task's checks made once more in the finished workspace."""
    still = {}
    for name, task in config.tasks.items():
        judged = await anyio.to_thread.run_sync(judge, task, workspace.folder, config.sandbox)
        still[name] = not judged.why
    done = {name: each.model_copy(update={"at_the_end": still[name]}) for name, each in tasks.items()}
    wanted = {file for task in config.tasks.values() for file in task.files}
    files = {
        file: len((workspace.folder / file).read_bytes().splitlines())
        for file in sorted(wanted & set(workspace.files()))
    }
    return Build(
        passed=sum(each.passed for each in done.values()),
        at_the_end=sum(still.values()),
        tasks=done,
        files=files,
    )


@scorer(metrics=[mean()])
def _share(runs: list[Build]) -> Scorer:
    """For inspect-ai's log and viewer: the share of the tasks that passed."""

    async def score(state: TaskState, target: Target) -> Score:
        done = runs[state.epoch - 1]
        failed = [f"{name}: {each.why}" for name, each in done.tasks.items() if not each.passed]
        return Score(value=done.passed / len(done.tasks), explanation="\n".join(failed))

    return score


def framework() -> str:
    """The framework and its version."""
    return f"{FRAMEWORK} {version(FRAMEWORK)}"


def _summary(task: BuiltTask) -> str:
    replies = "1 reply" if task.replies == 1 else f"{task.replies} replies"
    return f"passed, {replies}" if task.passed else f"failed, {replies}: {quoted(task.why, 100)}"
