"""Transcripts over real HTTP, each scored as it deserves."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from agentic.scripted import (
    TASKS,
    Transcript,
    call,
    done,
    good,
    instead,
    raw_call,
    right,
    solution,
    steps,
    told,
    writes,
)
from chat_server import serving
from running import ROOT, command

from proofcard.agentic import report
from proofcard.agentic.command import execute
from proofcard.config import compose
from proofcard.config.agentic import AgenticConfig
from proofcard.documents.agentic import AgenticReport, Build
from proofcard.errors import Stop

pytest.importorskip("inspect_ai")


def build(transcript: Transcript, folder: Path, last: str, *words: str) -> Build:
    """The run of a transcript up to a task."""
    with serving(told(transcript)) as url:
        config = compose(
            AgenticConfig, "agentic", [f"endpoint={url}", "tracking=off", f"work_dir={folder}", *words]
        )
        kept = TASKS[: TASKS.index(last) + 1]
        tasks = {name: config.agentic.tasks[name] for name in kept}
        config = config.model_copy(update={"agentic": config.agentic.model_copy(update={"tasks": tasks})})
        _, found = execute(config)
    return found.runs[0]


def test_the_known_good_transcript_passes_every_task(tmp_path: Path) -> None:
    with serving(told(good)) as url:
        said = command("agentic", f"endpoint={url}", "agentic.at_least=13", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    (folder,) = (tmp_path / "runs/agentic").iterdir()
    found = AgenticReport.model_validate_json((folder / "agentic.json").read_text())
    (run,) = found.runs
    assert (run.passed, run.at_the_end, len(run.tasks)) == (13, 13, 13)
    assert sorted(run.tasks, key=lambda name: run.tasks[name].number) == list(TASKS)
    assert len(run.files) == 11
    assert all(each.end == "by itself" and not each.unknown_tools for each in run.tasks.values())
    assert (found.score.value, found.score.high) == (1, 1) and 0.7 < found.score.low < 0.8
    assert "13 of 13" in said.stdout and "SPECIFICATION" not in said.stdout
    assert len(list((folder / "inspect").glob("*.eval"))) == 1
    _tracked(tmp_path, found)


def _tracked(cwd: Path, found: AgenticReport) -> None:
    """Every number, with its interval."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{cwd}/runs/mlflow.db")
    (experiment,) = (each for each in client.search_experiments() if each.name == "proofcard")
    (run,) = client.search_runs([experiment.experiment_id])
    numbers = report.numbers(found)
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "agentic/numbers.json")).read_text())
    assert dict(table["data"]) == pytest.approx(numbers)
    assert run.data.metrics["agentic_score"] == numbers["score"]


def test_a_missing_file_fails_its_task_and_those_that_need_it(tmp_path: Path) -> None:
    run = build(instead("ids", done("I have written ids.py.")), tmp_path, "records")
    assert [each.passed for each in run.tasks.values()] == [True, False, False]
    assert run.tasks["ids"].why == "ids.py is missing" and not run.tasks["ids"].compiles
    assert "ModuleNotFoundError" in run.tasks["records"].why and run.tasks["records"].compiles


def test_what_compiles_and_is_wrong_fails_by_its_checks_alone(tmp_path: Path) -> None:
    wrong = solution("ids").replace("{number:04d}", "{number:03d}")
    run = build(instead("ids", writes("ids", wrong), done()), tmp_path, "ids")
    ids = run.tasks["ids"]
    assert (ids.passed, ids.compiles, ids.end) == (False, True, "by itself")
    assert ids.why.startswith("check 1 of 2: ")


def test_what_does_not_compile_is_named(tmp_path: Path) -> None:
    run = build(instead("errors", writes("errors", "class A(:\n"), done()), tmp_path, "errors")
    assert not run.tasks["errors"].compiles
    assert run.tasks["errors"].why.startswith("errors.py does not compile: its code fails: SyntaxError")


def test_a_model_that_never_stops_fails_although_its_file_is_right(tmp_path: Path) -> None:
    transcript = instead("errors", *right("errors"), call("list_files"))
    run = build(transcript, tmp_path, "ids", "agentic.turns=5")
    first = run.tasks["errors"]
    assert (first.passed, first.at_the_end, first.end, first.replies) == (False, True, "too many replies", 6)
    assert first.why == "it went on after 5 replies"
    assert run.tasks["ids"].passed


def test_unknown_tools_and_calls_that_are_no_json_are_answered_and_counted(tmp_path: Path) -> None:
    transcript = instead(
        "errors",
        call("shell", command="rm -rf /"),
        raw_call("write_file", '{"path": "errors.py", "content": '),
        call("write_file", path="errors.py"),
        *steps("errors"),
        done(),
    )
    first = build(transcript, tmp_path, "errors").tasks["errors"]
    assert (first.passed, first.unknown_tools, first.malformed) == (True, 1, 1)


def test_a_failure_that_the_model_repairs_is_counted(tmp_path: Path) -> None:
    transcript = instead(
        "errors",
        writes("errors", "import nothing_of_that_name\n"),
        call("run_python", code="import errors"),
        call("run_python", code="import errors, sys"),
        *right("errors"),
        call("run_python", code="import errors; print(errors.described(KeyError('a')))"),
        done(),
    )
    first = build(transcript, tmp_path, "errors").tasks["errors"]
    assert (first.passed, first.failed_runs, first.repaired) == (True, 2, 2)


def test_a_later_task_may_repair_an_earlier_one(tmp_path: Path) -> None:
    def transcript(task: int, reply: int) -> dict[str, Any]:
        if TASKS[task - 1] == "errors":
            return done()
        replies = [*right("errors"), *right("ids"), done()]
        return replies[min(reply, 2)]

    run = build(transcript, tmp_path, "ids")
    assert [(each.passed, each.at_the_end) for each in run.tasks.values()] == [(False, True), (True, True)]
    assert (run.passed, run.at_the_end) == (1, 2)


@pytest.mark.parametrize(
    ("reply", "end", "why"),
    [
        ({"content": "<think>errors.py needs", "finish": "length"}, "thinking", "while thinking"),
        ({"content": "I shall now", "finish": "length"}, "cut", "was cut after 16384 tokens"),
        ({"content": "no", "finish": "content_filter"}, "server", "ended by the server"),
        ({"status": 400}, "refused", "the server refused to continue: HTTP 400"),
    ],
)
def test_a_reply_that_is_not_whole_fails_its_task(
    tmp_path: Path, reply: dict[str, Any], end: str, why: str
) -> None:
    first = build(instead("errors", *right("errors"), reply), tmp_path, "errors").tasks["errors"]
    assert (first.passed, first.end, first.at_the_end) == (False, end, True)
    assert why in first.why


def test_no_file_is_written_elsewhere(tmp_path: Path) -> None:
    names = ("../errors.py", "/tmp/errors.py", "a/b.py", ".py", "Errors.py", "errors.txt", "e\x00.py", "")
    attempts = [call("write_file", path=name, content="1") for name in names]
    run = build(instead("errors", *attempts, *right("errors"), done()), tmp_path, "errors")
    errors = run.tasks["errors"]
    assert errors.passed and errors.calls == 9 and list(run.files) == ["errors.py"]


def test_what_the_model_runs_is_confined(tmp_path: Path) -> None:
    seen: list[str] = []
    code = (
        "import os\nfor path in ('/etc/passwd', '.'):\n    print(len(os.listdir('.')))\n    open(path).read()"
    )
    attempts = [call("run_python", code=code), call("run_python", code="open('x.py', 'w')"), done()]

    def script(asked: dict[str, Any]) -> dict[str, Any]:
        seen.extend(each["content"] for each in asked["messages"] if each["role"] == "tool")
        said = sum(each["role"] == "assistant" for each in asked["messages"])
        return attempts[min(said, 2)]

    with serving(script) as url:
        words = [f"endpoint={url}", "tracking=off", f"work_dir={tmp_path}"]
        config = compose(AgenticConfig, "agentic", words)
        tasks = {"errors": config.agentic.tasks["errors"]}
        config = config.model_copy(update={"agentic": config.agentic.model_copy(update={"tasks": tasks})})
        _, found = execute(config)
    assert "1\n" in seen[0] and "PermissionError" in seen[0]
    assert "PermissionError" in seen[-1]
    assert found.runs[0].tasks["errors"].failed_runs == 2


def test_the_seed_of_each_run_is_its_own(tmp_path: Path) -> None:
    seeds: list[int] = []

    def script(asked: dict[str, Any]) -> dict[str, Any]:
        seeds.append(asked["seed"])
        return done()

    with serving(script) as url:
        words = [f"endpoint={url}", "tracking=off", f"work_dir={tmp_path}", "agentic.runs=2"]
        config = compose(AgenticConfig, "agentic", words)
        tasks = {"errors": config.agentic.tasks["errors"]}
        config = config.model_copy(update={"agentic": config.agentic.model_copy(update={"tasks": tasks})})
        _, found = execute(config)
    assert seeds == [7, 8] and [run.passed for run in found.runs] == [0, 0]


def test_a_server_that_fails_is_no_failure_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"^the server failed: HTTP 500"):
        build(instead("errors", *right("errors"), {"status": 500}), tmp_path, "errors")
    with pytest.raises(Stop, match=r"^the server failed: HTTP 422"):  # it does not know what tools are
        build(instead("errors", {"status": 422}), tmp_path, "errors")
    assert list((tmp_path / "agentic").iterdir()) == []


def test_no_file_of_the_working_folder_changes_how_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("INSPECT_EVAL_MESSAGE_LIMIT=1\nPLANTED_BY_A_FILE=1\n")
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "0")
    monkeypatch.chdir(tmp_path)
    assert build(good, tmp_path, "errors").passed == 1
    assert "PLANTED_BY_A_FILE" not in os.environ
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give either endpoint=http://HOST:PORT/v1 of a server that runs, or checkpoint=DIR"),
        (["endpoint=http://127.0.0.1:1/v1"], "cannot be reached (connection refused): start the server"),
        (["endpoint=http://127.0.0.1:1/v1", "serving=vllm"], "serving goes with a checkpoint"),
        (["endpoint=ftp://x/v1"], "should be an address such as"),
        ([f"checkpoint={ROOT}/demo/model"], "give serving=PROFILE"),
        (["checkpoint=.", "serving=transformers_cpu"], "checkpoint=. is a folder without a model"),
        (["agentic=nothing"], "agentic=nothing does not exist"),
        (["endpoint=http://127.0.0.1:1/v1", "agentic.runs=0"], "agentic.runs=0: it must be"),
    ],
)
def test_a_bad_request_builds_nothing(tmp_path: Path, words: list[str], sentence: str) -> None:
    said = command("agentic", *words, cwd=tmp_path)
    assert said.returncode == 2
    assert sentence in said.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_the_known_answers_of_the_checks_are_nothing_that_the_model_sees(tmp_path: Path) -> None:
    config = compose(AgenticConfig, "agentic", ["endpoint=http://127.0.0.1:1/v1"])
    shown = config.agentic.specification + "".join(task.prompt for task in config.agentic.tasks.values())
    for task in config.agentic.tasks.values():
        for check in task.checks:
            assert check.do not in shown and json.dumps(check.gives) not in shown
