"""MLflow gets the whole story of a run, and no secret."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from proofcard import tracking
from proofcard.config.schema import Tracking
from proofcard.errors import Usage
from proofcard.redact import redact

SECRET = "swordfish-7f3a9c21"


@pytest.fixture
def store(tmp_path: Path) -> Tracking:
    return Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test")


def runs(store: Tracking) -> dict[str, Run]:
    mlflow.set_tracking_uri(store.uri)
    found = mlflow.search_runs(experiment_names=["test"], output_format="list")
    return {run.data.tags["mlflow.runName"]: run for run in found}


def test_a_parent_with_nested_stages(store: Tracking, tmp_path: Path) -> None:
    with tracking.opened(store, "demo", tmp_path) as tracker:
        tracker.params({"a": {"b": 1, "c": [2, 3]}, "d": None} | {f"p{n}": n for n in range(150)})
        with tracker.stage("samples"):
            dataset = {"repository": "local", "splits": ["train"]}
            tracker.datasets({"texts": {"digest": "d" * 64}}, {"texts": dataset})
        with tracker.stage("quantize"):
            for step in range(3):
                tracker.metrics({"samples_per_second": 10.0 + step}, step=step)
            tracker.text("hello", "hello.txt")
    found = runs(store)
    parent = found["demo"]
    assert {name: run.info.status for name, run in found.items()} == dict.fromkeys(found, "FINISHED")
    assert parent.data.params["a.b"] == "1"
    assert parent.data.params["a.c"] == "[2, 3]"
    assert parent.data.params["p149"] == "149"
    assert len(parent.data.tags["uv.lock.sha256"]) == 64
    for name in ("demo: samples", "demo: quantize"):
        assert found[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
    [entry] = found["demo: samples"].inputs.dataset_inputs
    assert {tag.key: tag.value for tag in entry.tags} == {
        "mlflow.data.context": "calibration",
        "sha256": "d" * 64,
    }

    assert entry.dataset.name == "texts"
    client = mlflow.MlflowClient()
    history = client.get_metric_history(found["demo: quantize"].info.run_id, "samples_per_second")
    assert [(point.step, point.value) for point in history] == [(0, 10.0), (1, 11.0), (2, 12.0)]
    assert [a.path for a in client.list_artifacts(found["demo: quantize"].info.run_id)] == ["hello.txt"]


def test_failure_and_interrupt_are_told_apart(store: Tracking, tmp_path: Path) -> None:
    for name, error in (("failed", ValueError), ("stopped", KeyboardInterrupt)):
        with (
            pytest.raises(error),
            tracking.opened(store, name, tmp_path) as tracker,
            tracker.stage(f"{name}-stage"),
        ):
            raise error
    status = {name: run.info.status for name, run in runs(store).items()}
    assert status["failed"] == status["failed: failed-stage"] == "FAILED"
    assert status["stopped"] == status["stopped: stopped-stage"] == "KILLED"


def test_no_secret_reaches_the_store(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "hf_" + "a1B2" * 8
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr("sys.argv", ["quantize", f"tracking.uri=http://me:pw-{SECRET}@h/", f"x={token}"])
    with tracking.opened(store, "demo", tmp_path) as tracker:
        tracker.params({"uri": f"http://user:pass@host/{SECRET}", "token": token})
        tracker.tags({"note": f"Bearer {SECRET}", "sk": "sk-" + "z" * 20})
        tracker.text(f"it is {SECRET} and {token}", "note.txt")
    planted = [SECRET.encode(), token.encode(), b"user:pass", b"sk-zzz"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "note.txt" for path in files)
    assert any(path.name == "mlflow.db" for path in files)
    for path in files:
        content = path.read_bytes()
        assert [secret for secret in planted if secret in content] == [], path


def test_ordinary_text_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN_FILE", str(tmp_path))  # a place, not a secret
    text = f"http://127.0.0.1:5000/a@b {tmp_path}/x sha256 " + "ab" * 32
    assert redact(text) == text


def test_a_store_that_does_not_answer_stops_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    entered = False
    with (
        pytest.raises(
            Usage,
            match=r"MLflow at http://\[redacted\]@127.0.0.1:9 cannot be reached \(.* refused\).*tracking=off",
        ),
        tracking.opened(Tracking(uri="http://me:pw@127.0.0.1:9", experiment="e"), "demo", tmp_path),
    ):
        entered = True
    assert not entered


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """MLflow's own server on loopback: its address, and its group of processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).parent / "mlflow"
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/s.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    process = subprocess.Popen(
        [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.3)
        yield address, process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_gets_runs_and_artifacts_and_an_interrupt_does_not_wait_for_one_that_hangs(
    server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, processes = server
    store = Tracking(uri=address, experiment="test")
    with tracking.opened(store, "demo", tmp_path) as tracker:
        tracker.params({"kv_cache": {"format": "fp8"}})
        with tracker.stage("quantize"):
            tracker.text("sealed", "manifest.json")
    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("test")
    found = {run.data.tags["mlflow.runName"]: run for run in client.search_runs([experiment.experiment_id])}
    assert found["demo"].data.params == {"kv_cache.format": "fp8"}
    assert (
        mlflow.artifacts.load_text(f"{found['demo: quantize'].info.artifact_uri}/manifest.json") == "sealed"
    )
    assert not list(tmp_path.glob("mlartifacts*"))  # the server keeps them, not our folder
    monkeypatch.setattr("proofcard.tracking_run._HURRIED", "1")
    monkeypatch.setattr("proofcard.tracking_run._PATIENCE", 0.5)
    with pytest.raises(KeyboardInterrupt), tracking.opened(store, "demo", tmp_path) as tracker:
        os.killpg(processes, signal.SIGSTOP)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30  # of four minutes of retries
    assert tracker.lost == "timed out"


def test_a_store_lost_on_the_way_costs_the_tracking_not_the_work(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("server went away")

    with tracking.opened(store, "demo", tmp_path) as tracker:
        with tracker.stage("quantize"):
            monkeypatch.setattr(mlflow, "log_metrics", gone)
            for step in range(3):
                tracker.metrics({"samples_per_second": 1.0}, step=step)
        finished = True
    assert finished
    assert capsys.readouterr().err.count("MLflow stopped responding (server went away)") == 1
    monkeypatch.undo()
    mlflow.end_run()
    mlflow.end_run()


def test_off_is_off(tmp_path: Path) -> None:
    with tracking.opened(Tracking(uri=None, experiment="e"), "demo", tmp_path) as tracker:
        tracker.params({"a": 1})
        tracker.metrics({"b": 2.0})
        with tracker.stage("s"):
            tracker.text("c", "d")
    assert list(tmp_path.iterdir()) == []
