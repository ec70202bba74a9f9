"""The command on two servers over real HTTP, through the real harness: each verdict and its exit status."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def test_a_candidate_as_good_as_its_reference_is_accepted_and_tracked(bench: None, tmp_path: Path) -> None:
    with both(knows(0.9), knows(0.9)) as servers:
        said = command("tasks", *servers, *QUICK, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "Tasks: ACCEPT" in said.stdout
    (folder,) = (tmp_path / "runs/tasks").iterdir()
    found = TasksReport.model_validate_json((folder / "tasks.json").read_text())
    tools = found.tasks["tools"]
    assert (tools.questions, tools.lost, tools.gained, tools.missing) == (75, 0, 0, 0)
    assert tools.reference.value == pytest.approx(68 / 75)
    assert set(found.not_run) == {"arithmetic", "science", "programs"}
    kept = (folder / "candidate-1/answers.jsonl").read_text().splitlines()
    assert len(kept) == 75 and {json.loads(line)["outcome"] for line in kept} == {"answered"}
    _tracked(tmp_path, found)


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


def test_a_candidate_that_thinks_without_end_is_a_regression(bench: None, tmp_path: Path) -> None:
    endless = {"content": "<think>Set a timer", "finish": "length"}
    with both(knows(0.9), knows(0.5, endless)) as servers:
        said = command("tasks", *servers, *QUICK, "tracking=off", cwd=tmp_path)
    assert said.returncode == 1, said.stderr
    assert "Tasks: REGRESSION" in said.stdout
    (folder,) = (tmp_path / "runs/tasks").iterdir()
    tools = TasksReport.model_validate_json((folder / "tasks.json").read_text()).tasks["tools"]
    assert tools.outcomes["candidate"] == {"answered": 38, "thinking": 37}
    assert (tools.lost, tools.gained) == (30, 0)


def test_each_verdict_has_an_exit_status_of_its_own() -> None:
    assert _STATUS == {"ACCEPT": 0, "REGRESSION": 1, "INCONCLUSIVE": 3}  # 2: it failed, or was not started


def test_a_server_that_fails_is_no_verdict(bench: None, tmp_path: Path) -> None:
    with both(lambda _: {"status": 500}, knows(0.9)) as servers:
        said = command("tasks", *servers, *QUICK, "tracking=off", cwd=tmp_path)
    assert said.returncode == 2
    assert "task tools: 8 requests failed one after the other, the last with: HTTP 500" in said.stderr


def test_an_interrupted_run_does_not_ask_again(bench: None, tmp_path: Path) -> None:
    """Both servers are vouched for; the candidate breaks down after 40 answers, and comes back."""
    asked = {"reference": 0, "candidate": 0}
    broken = [True]

    def counted(side: str) -> Callable[[dict[str, Any]], Reply]:
        answer = knows(0.9)

        def reply(request: dict[str, Any]) -> Reply:
            if side == "candidate" and broken[0] and asked[side] == 40:
                return {"status": 400}
            asked[side] += 1
            return answer(request)

        return reply

    words = [*QUICK, "tasks.users=1", "tasks.resume=true", "tracking=off"]
    with both(counted("reference"), counted("candidate")) as servers:
        said = command("tasks", *servers, *words, cwd=tmp_path)
        assert said.returncode == 2 and asked == {"reference": 75, "candidate": 40}, said.stderr
        broken[0] = False
        said = command("tasks", *servers, *words, cwd=tmp_path)
        assert said.returncode == 0 and asked == {"reference": 75, "candidate": 75}, said.stderr
        assert "candidate: reusing 40 answers of an interrupted run" in said.stderr
        assert not (tmp_path / "runs/tasks.interrupted").exists()
        command("tasks", *servers, *words, cwd=tmp_path)
    assert asked["reference"] == 150  # a run that has ended leaves nothing to reuse


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tasks.tasks.tools.harness=nothing"], "has no task nothing"),
        (["tasks.tasks.tools.filter=first"], "task tools: demo_tools has no filter first: choose from none"),
        (
            ["tasks=nvidia_m2_7", "tasks.only=[aime25]", "policy=usual", "tasks.limit=2"],
            "task aime25: its dataset is not on this machine",
        ),
    ],
)
def test_a_task_that_cannot_be_run_is_named(
    bench: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
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
