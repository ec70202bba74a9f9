"""The MLflow server of compose.yaml as processes: PostgreSQL, users, artifacts, and a hard death."""

import base64
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
from forking import Forked
from mlflow.entities import Run
from mlflow.tracking.fluent import run_id_to_system_metrics_monitor
from running import ROOT, surroundings

sys.path.insert(0, str(Path(__file__).parent))
from client import STEPS
from processes import SECRETS, Server, breaking, free_port, postgres, programs, until

from proofcard import manifest, tracking
from proofcard.config.schema import Tracking

pytestmark = pytest.mark.skipif(
    programs() is None, reason="no PostgreSQL here: apt-get install postgresql, to test the tracking server"
)
CLIENTS = ("first", "second")
USER = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": SECRETS["ADMIN_PASSWORD"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server over its database, started once."""
    with postgres() as database:
        served = Server(tmp_path_factory.mktemp("mlflow"), database, free_port())
        served.start()
        try:
            yield served
        finally:
            served.kill()


@pytest.fixture(scope="module")
def logged(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two clients log at once, and the server is killed and started again under them; what each said."""
    folder = tmp_path_factory.mktemp("clients")
    program = Path(__file__).parent / "client.py"
    environment = os.environ | surroundings() | USER
    environment.pop("MLFLOW_HTTP_REQUEST_MAX_RETRIES", None)
    clients = {
        name: Forked([str(program), server.address, name, str(folder)], folder, environment)
        for name in CLIENTS
    }
    for name, client in clients.items():
        until((folder / f"{name}.underway").exists, client, server.log)
    server.kill()
    server.start()
    said = {name: client.communicate(timeout=600)[1] for name, client in clients.items()}
    assert [client.returncode for client in clients.values()] == [0, 0], said
    return said


@pytest.fixture
def runs(server: Server, logged: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Run]:
    """Every run of the shared experiment by name, as the server tells it."""
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    client = mlflow.MlflowClient(server.address)
    experiment = client.get_experiment_by_name("shared")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_clients_do_not_notice_that_the_server_was_killed(logged: dict[str, str]) -> None:
    assert all("stopped responding" not in said for said in logged.values()), logged


def test_every_run_is_there_and_finished(runs: dict[str, Run]) -> None:
    assert sorted(runs) == sorted([*CLIENTS, *(f"{name}: {name}-stage" for name in CLIENTS)])
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in CLIENTS:
        assert runs[name].data.params == {"client": name, "deep.list": "[1, 2, 3]"}
        assert runs[f"{name}: {name}-stage"].data.tags["mlflow.parentRunId"] == runs[name].info.run_id


@pytest.mark.parametrize("name", CLIENTS)
def test_no_metric_is_lost(server: Server, runs: dict[str, Run], name: str) -> None:
    history = mlflow.MlflowClient(server.address).get_metric_history(
        runs[f"{name}: {name}-stage"].info.run_id, "loss"
    )
    said = {point.step: point.value for point in history}  # a repeated request may have said a point twice
    assert said == {step: step / 8 for step in range(STEPS)}


@pytest.mark.parametrize("name", CLIENTS)
def test_every_artifact_lies_on_the_servers_volume(server: Server, runs: dict[str, Run], name: str) -> None:
    uri = runs[f"{name}: {name}-stage"].info.artifact_uri
    assert uri.startswith("mlflow-artifacts:")
    for step in range(0, STEPS, 10):
        [file] = (server.folder / "artifacts").rglob(
            f"{runs[f'{name}: {name}-stage'].info.run_id}/*/texts/{step}.txt"
        )
        assert file.read_text() == f"{name} at {step}"


@pytest.mark.parametrize("path", ["runs/log-batch", "runs/update"])
def test_a_request_whose_reply_breaks_off_is_repeated(
    path: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    with breaking(server, path, times=2) as address:
        store = Tracking(uri=address, experiment=path.replace("/", "_"))
        with tracking.opened(store, "plan", tmp_path) as tracker:
            tracker.metrics({"loss": 0.5}, step=3)
            assert tracker.lost is None
    assert tracker.lost is None and not run_id_to_system_metrics_monitor
    client = mlflow.MlflowClient(server.address)
    [run] = client.search_runs([client.get_experiment_by_name(store.experiment).experiment_id])
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 0.5)


def test_the_end_of_a_stage_repeated_does_not_end_the_run_around_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    with breaking(server, "runs/update", times=2) as address:
        store = Tracking(uri=address, experiment="broken_end_of_a_stage")
        with tracking.opened(store, "plan", tmp_path) as tracker:
            with tracker.stage("inner"):
                pass
            around = mlflow.active_run()
            assert around is not None and around.info.run_name == "plan"
            tracker.metrics({"loss": 0.5})
        assert tracker.lost is None
    client = mlflow.MlflowClient(server.address)
    runs = client.search_runs([client.get_experiment_by_name(store.experiment).experiment_id])
    said = {run.info.run_name: (run.info.status, run.data.metrics.get("loss")) for run in runs}
    assert said == {"plan": ("FINISHED", 0.5), "plan: inner": ("FINISHED", None)}


def test_a_checkpoint_has_its_run_its_model_and_its_aliases(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    sealed = manifest.read(ROOT / "tests/golden/manifest-1/checkpoint")
    store, subject = Tracking(uri=server.address, experiment="proofcard"), tracking.of_sealed(sealed)
    with tracking.opened(store, "verify", tmp_path, subject=subject) as tracker:
        texts = tracker.data("held_out_texts", "e" * 64, "evaluation")
        tracker.headlines({"weights_proved": 1.0}, texts)
        tracker.table([{"level": "weights", "result": "holds"}], "verification/levels.json")
        tracker.verified(True, "weights")
        tracker.published("somebody/something@" + "c" * 40)
        assert tracker.lost is None
    client = mlflow.MlflowClient(server.address, server.address)
    assert set(client.get_model_version("local", "1").aliases) == {"verified", "published"}
    place = client.get_experiment_by_name("proofcard").experiment_id
    [model] = client.search_logged_models([place])
    assert {metric.key: metric.value for metric in model.metrics} == {"weights_proved": 1.0}
    [run] = client.search_runs([place], "tags.kind = 'checkpoint'")
    assert (
        run.data.metrics["weights_proved"] == 1 and "Headline numbers" in run.data.tags["mlflow.note.content"]
    )
    [child] = client.search_runs([place], "tags.command = 'verify'")
    link = f"{server.address}/#/experiments/{place}/runs/{child.info.run_id}?workflowType=machine_learning"
    out, errors = capsys.readouterr()
    assert f"MLflow: {link}\n" in errors and out == ""


def status(address: str, **headers: str) -> int:
    """HTTP status of a request for the experiments."""
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0", headers=headers
    )
    try:
        return int(urllib.request.urlopen(request, timeout=30).status)
    except urllib.error.HTTPError as error:
        return error.code


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_only_who_has_a_password_is_answered(server: Server) -> None:
    assert status(server.address) == 401
    assert status(server.address, Authorization=basic("admin", "guessed")) == 401
    assert status(server.address, Authorization=basic("admin", SECRETS["ADMIN_PASSWORD"])) == 200


def test_an_artifact_needs_a_password_too(server: Server, runs: dict[str, Run]) -> None:
    experiment, run = runs["first: first-stage"].info.experiment_id, runs["first: first-stage"].info.run_id
    path = f"{server.address}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/texts/0.txt"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(path, timeout=30)


def test_a_host_that_was_not_named_is_refused(server: Server) -> None:
    allowed = basic("admin", SECRETS["ADMIN_PASSWORD"])
    assert status(server.address, Authorization=allowed, Host="attacker.example") == 403


def test_no_secret_is_in_an_argument_or_a_log(server: Server) -> None:
    parent = psutil.Process(server.process.pid)
    shown = [" ".join(process.cmdline()) for process in (parent, *parent.children(recursive=True))]
    shown.append(server.log.read_text())
    assert [secret for secret in SECRETS.values() for text in shown if secret in text] == []


def test_without_a_secret_it_does_not_start(server: Server, tmp_path: Path) -> None:
    environment = server.environment(ADMIN_PASSWORD_FILE=str(tmp_path / "none"))
    said = subprocess.run(
        [ROOT / "mlflow" / "server.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    missing = f"MLFLOW_AUTH_ADMIN_PASSWORD is read from {tmp_path}/none, which cannot be read"
    assert said.stderr == f"mlflow/server.sh: {missing}\n"
