"""Everything about one checkpoint is found under it, whichever day or process it comes from."""

import os
import time
from pathlib import Path

import mlflow
import pytest
from children import ended, forked
from mlflow.entities import Run

from proofcard import tracking
from proofcard.config.schema import Tracking
from proofcard.errors import Usage
from proofcard.tracking import Subject

KEY = "49e56d7ce830" + "0" * 52


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """One store for all of them: making it takes seconds."""
    return Tracking(uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", experiment="test")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "MLFLOW_" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setattr(tracking, "_environment", dict)  # git, slow to start


def key_of(folder: Path) -> str:
    """A key of each test's own."""
    return folder.name.encode().hex()[-64:].zfill(64)


def runs(store: Tracking, key: str) -> dict[str, Run]:
    """The runs with a key, by command, and the checkpoint's by its name."""
    client = mlflow.MlflowClient(store.uri)
    experiment = client.get_experiment_by_name(store.experiment)
    found = client.search_runs([experiment.experiment_id], f"tags.key = '{key}'")
    return {run.data.tags.get("command", run.info.run_name): run for run in found}


def track(store: Tracking, folder: Path, command: str, key: str, makes: bool = False) -> None:
    with tracking.opened(store, command, folder, subject=Subject(key, "demo"), makes=makes) as tracker:
        tracker.params({"a": 1})
        assert tracker.lost is None


def test_every_command_joins_the_run_that_quantize_has_opened(store: Tracking, tmp_path: Path) -> None:
    key = key_of(tmp_path)
    track(store, tmp_path, "quantize", key, makes=True)
    for command in ("verify", "analyse", "serve", "benchmark"):
        assert ended(forked(lambda command=command: track(store, tmp_path, command, key))) == 0
    found = runs(store, key)
    parent = found.pop(f"demo-{key[:12]}")
    assert parent.data.tags["kind"] == "checkpoint"
    assert "mlflow.parentRunId" not in parent.data.tags
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert {name: run.data.tags["command"] for name, run in found.items()} == {
        name: name for name in ("quantize", "verify", "analyse", "serve", "benchmark")
    }


def test_a_command_that_comes_first_makes_the_run_and_quantize_takes_it(
    store: Tracking, tmp_path: Path
) -> None:
    key = key_of(tmp_path)
    track(store, tmp_path, "verify", key)
    before = runs(store, key)[f"demo-{key[:12]}"]
    assert before.info.status == "FINISHED"
    with tracking.opened(store, "quantize", tmp_path, subject=Subject(key), makes=True):
        during = runs(store, key)[f"demo-{key[:12]}"]
    assert (during.info.run_id, during.info.status) == (before.info.run_id, "RUNNING")


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_the_checkpoint_s_run_ends_as_quantize_does_and_a_later_one_mends_it(
    store: Tracking, tmp_path: Path, error: type[BaseException], status: str
) -> None:
    key = key_of(tmp_path)
    with (
        pytest.raises(error),
        tracking.opened(store, "quantize", tmp_path, subject=Subject(key, "demo"), makes=True),
    ):
        raise error
    assert {run.info.status for run in runs(store, key).values()} == {status}
    with (
        pytest.raises(error),
        tracking.opened(store, "verify", tmp_path, subject=Subject(key, "demo"), name="failed"),
    ):
        raise error
    assert runs(store, key)[f"demo-{key[:12]}"].info.status == status
    track(store, tmp_path, "quantize", key, makes=True)
    assert runs(store, key)[f"demo-{key[:12]}"].info.status == "FINISHED"


def test_another_key_is_another_run(store: Tracking, tmp_path: Path) -> None:
    one, other = key_of(tmp_path), key_of(tmp_path)[::-1]
    for key in (one, other):
        track(store, tmp_path, "quantize", key, makes=True)
    assert len(runs(store, one)) == len(runs(store, other)) == 2


def test_a_deleted_run_is_not_joined(store: Tracking, tmp_path: Path) -> None:
    key = key_of(tmp_path)
    track(store, tmp_path, "verify", key)
    first = runs(store, key)[f"demo-{key[:12]}"].info.run_id
    mlflow.MlflowClient(store.uri).delete_run(first)
    track(store, tmp_path, "verify", key)
    assert runs(store, key)[f"demo-{key[:12]}"].info.run_id != first


def test_two_first_starts_on_one_fresh_store_share_one_run(tmp_path: Path) -> None:
    fresh = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test")

    def work(command: str) -> None:
        time.sleep(max(0.0, time.time() // 1 + 1 - time.time()))
        track(fresh, tmp_path, command, KEY, makes=command == "quantize")

    started = [forked(lambda command=command: work(command)) for command in ("quantize", "verify")]
    assert [ended(pid) for pid in started] == [0, 0]
    found = runs(fresh, KEY)
    parent = found["demo-49e56d7ce830"].info.run_id
    assert {found[name].data.tags["mlflow.parentRunId"] for name in ("quantize", "verify")} == {parent}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert len(found) == 3


def test_a_run_of_the_environment_is_noted_and_the_checkpoint_s_joined(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_of(tmp_path)
    track(store, tmp_path, "quantize", key, makes=True)
    client = mlflow.MlflowClient(store.uri)
    theirs = client.create_run(client.get_experiment_by_name("test").experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    track(store, tmp_path, "verify", key)
    found = runs(store, key)
    verify = found["verify"].data.tags
    assert verify["mlflow.parentRunId"] == found[f"demo-{key[:12]}"].info.run_id
    assert verify["started_in"] == theirs
    assert client.get_run(theirs).data.params == {}
    said = " ".join(capsys.readouterr().err.split())
    assert f"that of its checkpoint, demo-{key[:12]}; MLFLOW_RUN_ID='{theirs}' is noted as a tag" in said


@pytest.mark.parametrize("key", ["", "x", "' OR tags.kind = 'checkpoint", "A" * 64, "0" * 63 + "\n"])
def test_what_is_not_a_key_reaches_no_query(key: str) -> None:
    with pytest.raises(Usage, match="is not a sha256"):
        Subject(key)


def test_without_a_store_nothing_is_made_where_none_is_asked_for(tmp_path: Path) -> None:
    store = Tracking(uri=f"sqlite:///{tmp_path}/none/mlflow.db", experiment="test", create=False)
    track(store, tmp_path, "verify", KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_used(store: Tracking, tmp_path: Path) -> None:
    track(store, tmp_path, "quantize", key_of(tmp_path), makes=True)
    track(store.model_copy(update={"create": False}), tmp_path, "verify", key_of(tmp_path))
    assert "verify" in runs(store, key_of(tmp_path))


def test_an_existing_store_that_cannot_be_used_costs_the_tracking_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_text("my notes")
    store = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="test", create=False)
    track(store, tmp_path, "verify", KEY)
    assert "not tracked: MLflow at sqlite:///" in capsys.readouterr().err
    assert (tmp_path / "mlflow.db").read_text() == "my notes"
    with pytest.raises(Usage):
        track(store.model_copy(update={"create": True}), tmp_path, "verify", KEY)
