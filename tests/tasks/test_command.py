"""The command on two servers over real HTTP, through the real harness: each verdict and its exit status."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chat_server import Reply, serving
from running import ROOT, command

from proofcard.documents.tasks import TasksReport
from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.tasks import report
from proofcard.tasks.command import _STATUS

QUESTIONS = [json.loads(line) for line in (ROOT / "demo/questions/demo_tools.jsonl").read_text().splitlines()]
ANSWERS = {(each["system"], each["question"]): each["answer"] for each in QUESTIONS}
MODEL = Path(__file__).parents[2] / "demo" / "model"
QUICK = ("tasks.only=[tools]", "policy=demo", "policy.resamples=500", "tasks.users=4")


@pytest.fixture(scope="module")
def bench() -> None:
    try:
        program("bench", "python")
    except Usage as missing:
        pytest.skip(f"the harness cannot run here: {missing}")


def knows(share: float, otherwise: Reply | None = None) -> Callable[[dict[str, Any]], Reply]:
    """A server that answers the first questions right, and the others with something else."""
    right = list(ANSWERS)[: round(share * len(ANSWERS))]

    def reply(asked: dict[str, Any]) -> Reply:
        assert asked["temperature"] == 0 and "seed" not in asked and asked["max_tokens"] == 192
        system, user = (message["content"] for message in asked["messages"])
        key = (system, user)
        return {"content": ANSWERS[key]} if key in right else otherwise or {"content": "I do not know."}

    return reply


@contextmanager
def both(reference: Any, candidate: Any) -> Iterator[list[str]]:
    with serving(reference) as first, serving(candidate) as second:
        yield [f"reference.endpoint={first}", f"candidate.endpoint={second}"]


class Runs(NamedTuple):
    """What three runs on the same two servers said and left, and how many answers each server had given."""

    cwd: Path
    said: list["subprocess.CompletedProcess[str]"]
    answered: list[dict[str, int]]
    waiting: list[bool]
    """Whether answers of an interrupted run were kept afterwards."""

    @property
    def regression(self) -> Path:
        """The folder of the second run."""
        return self.cwd / "runs/tasks/demo-001"

    @property
    def accepted(self) -> Path:
        """The folder of the third run."""
        return self.cwd / "runs/tasks/demo-002"


@pytest.fixture(scope="module")
def runs(bench: None, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both servers are vouched for. The candidate thinks without end in half of its answers.

    It breaks down after 40 of them, and comes back for the second run. For the third it is a good one.
    """
    endless: Reply = {"content": "<think>Set a timer", "finish": "length"}
    answered = {"reference": 0, "candidate": 0}
    candidates = [knows(0.5, endless), knows(0.5, endless), knows(0.9)]
    made = Runs(tmp_path_factory.mktemp("tasks"), [], [], [])

    def reference(request: dict[str, Any]) -> Reply:
        answered["reference"] += 1
        return knows(0.9)(request)

    def candidate(request: dict[str, Any]) -> Reply:
        if not made.said and answered["candidate"] == 40:
            return {"status": 500}
        answered["candidate"] += 1
        return candidates[len(made.said)](request)

    one_by_one = ["tasks.users=1", "tracking=off"]
    with both(reference, candidate) as servers:
        for words in (one_by_one, one_by_one, []):
            words = [*servers, *QUICK, "tasks.resume=true", *words]
            made.said.append(command("tasks", *words, cwd=made.cwd))
            made.answered.append(dict(answered))
            made.waiting.append((made.cwd / "runs/tasks.interrupted").exists())
    return made


def test_a_candidate_as_good_as_its_reference_is_accepted_and_tracked(runs: Runs) -> None:
    assert runs.said[2].returncode == 0, runs.said[2].stderr
    assert "Tasks: ACCEPT" in runs.said[2].stdout
    folder = runs.accepted
    found = TasksReport.model_validate_json((folder / "tasks.json").read_text())
    tools = found.tasks["tools"]
    assert (tools.questions, tools.lost, tools.gained, tools.missing) == (75, 0, 0, 0)
    assert tools.reference.value == pytest.approx(68 / 75)
    assert set(found.not_run) == {"arithmetic", "science", "programs"}
    kept = (folder / "candidate-1/answers.jsonl").read_text().splitlines()
    assert len(kept) == 75 and {json.loads(line)["outcome"] for line in kept} == {"answered"}
    _tracked(runs.cwd, found)


def _tracked(cwd: Path, found: TasksReport) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{cwd}/runs/mlflow.db")
    (experiment,) = (each for each in client.search_experiments() if each.name == "proofcard")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"tasks demo", "tasks demo: reference", "tasks demo: candidate"}
    run = runs["tasks demo"]
    assert {"tools/reference", "tools/candidate", "task_recovery"} <= set(run.data.metrics)
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "tasks/numbers.json")).read_text())
    assert dict(table["data"]) == pytest.approx(report.numbers(found))


def test_a_candidate_that_thinks_without_end_is_a_regression(runs: Runs) -> None:
    """Also where the run was interrupted among such answers."""
    assert runs.said[1].returncode == 1, runs.said[1].stderr
    assert "Tasks: REGRESSION" in runs.said[1].stdout
    tools = TasksReport.model_validate_json((runs.regression / "tasks.json").read_text()).tasks["tools"]
    assert tools.outcomes["candidate"] == {"answered": 38, "thinking": 37}
    assert (tools.lost, tools.gained) == (30, 0)


def test_each_verdict_has_an_exit_status_of_its_own() -> None:
    assert _STATUS == {"ACCEPT": 0, "REGRESSION": 1, "INCONCLUSIVE": 3}  # 2: it failed, or was not started


def test_a_server_that_fails_is_no_verdict(runs: Runs) -> None:
    said = runs.said[0]
    assert said.returncode == 2 and "Tasks:" not in said.stdout
    assert "task tools: 8 requests failed one after the other, the last with: HTTP 500" in said.stderr


def test_an_interrupted_run_does_not_ask_again(runs: Runs) -> None:
    assert runs.answered[0] == {"reference": 75, "candidate": 40}, runs.said[0].stderr
    assert runs.answered[1] == {"reference": 75, "candidate": 75}, runs.said[1].stderr
    assert "candidate: reusing 40 answers of an interrupted run" in runs.said[1].stderr
    assert runs.waiting == [True, False, False]
    # a run that has ended leaves nothing to reuse
    assert runs.answered[2] == {"reference": 150, "candidate": 150}, runs.said[2].stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tasks.tasks.tools.harness=nothing"], "has no task nothing"),
        (["tasks.tasks.tools.filter=first"], "task tools: demo_tools has no filter first: choose from none"),
    ],
)
def test_a_task_that_cannot_be_run_is_named(
    bench: None, tmp_path: Path, words: list[str], sentence: str
) -> None:
    _named(tmp_path, words, sentence)


@pytest.mark.parametrize("task", ["aime25", "mmlu_pro"])  # the harness's second is a group of tasks
def test_a_task_whose_data_are_not_here_is_named(
    bench: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    words = ["tasks=nvidia_m2_7", f"tasks.only=[{task}]", "policy=usual", "tasks.limit=2"]
    _named(tmp_path, words, f"task {task}: its dataset is not on this machine")


def _named(tmp_path: Path, words: list[str], sentence: str) -> None:
    with serving(lambda _: {"content": "x"}) as url:
        servers = [f"reference.endpoint={url}", f"candidate.endpoint={url}"]
        said = command("tasks", *servers, *QUICK, "tracking=off", "tasks.limit=2", *words, cwd=tmp_path)
    assert said.returncode == 2
    assert sentence in said.stderr.splitlines()[-1], said.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give either reference.endpoint=http://HOST:PORT/v1 of a server that runs, or reference."),
        (["reference.endpoint=http://127.0.0.1:1/v1"], "give either candidate.endpoint="),
        ([f"reference.checkpoint={MODEL}", f"candidate.checkpoint={MODEL}"], "give serving=PROFILE"),
        (
            ["reference.endpoint=http://127.0.0.1:1/v1", "candidate.endpoint=http://127.0.0.1:1/v1"],
            "cannot be reached (connection refused): start the server, or correct reference.endpoint",
        ),
        (["tasks.only=[dance]"], "tasks.only names dance: choose from arithmetic"),
        (["tasks=nvidia_m2_7", "tasks.only=[scicode]"], "task scicode cannot be run: the harness does not"),
        (["tasks.tasks.tools.repeats=3"], "greedy answers are asked for once"),
        (["+policy.margins.dance=0.1"], "policy.margins names dance"),
        (["policy=mine"], "policy=mine does not exist"),
        (["policy.confidence=1.5"], "policy.confidence=1.5: it must be"),
        (["tasks.include=/nowhere"], "tasks.include=/nowhere is not a folder"),
    ],
)
def test_a_bad_request_asks_nothing(bench: None, tmp_path: Path, words: list[str], sentence: str) -> None:
    settings = [word for word in words if word.startswith(("tasks", "policy", "+"))]
    sides = (
        [f"{side}.endpoint=http://127.0.0.1:1/v1" for side in ("reference", "candidate")] if settings else []
    )
    said = command("tasks", *sides, *words, "tracking=off", cwd=tmp_path)
    assert said.returncode == 2
    assert sentence in said.stderr.splitlines()[-1], said.stderr
    assert not (tmp_path / "runs").exists()
