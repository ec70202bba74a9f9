"""Where a run goes is ours to say; what the environment says is named; a run is whole or said not to be."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from children import ended, forked

from proofcard import tracking, tracking_store
from proofcard.config.schema import Tracking
from proofcard.errors import Usage


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


def client(store: Tracking) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(store.uri)


def track(store: Tracking, folder: Path, name: str) -> str:
    """Track a run; its id."""
    with tracking.opened(store, "quantize", folder, name=name) as tracker:
        tracker.params({"made": "by us"})
        run: str = mlflow.active_run().info.run_id
    return run


def a_run(store: Tracking, folder: Path, status: str = "RUNNING", deleted: bool = False) -> str:
    """A run of somebody else's in the store."""
    track(store, folder, "first")
    experiment = client(store).get_experiment_by_name("test")
    run: str = client(store).create_run(experiment.experiment_id).info.run_id
    if status != "RUNNING":
        client(store).set_terminated(run, status)
    if deleted:
        client(store).delete_run(run)
    return run


def refusal(store: Tracking, folder: Path) -> str:
    entered = False
    with pytest.raises(Usage) as refused, tracking.opened(store, "ours", folder):
        entered = True
    assert not entered
    return str(refused.value)


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED", "SCHEDULED"])
def test_a_run_that_is_over_is_not_written_into(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    run = a_run(store, tmp_path, status)
    before = client(store).get_run(run).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    assert refusal(store, tmp_path) == (
        f"MLFLOW_RUN_ID='{run}' names a run that has ended ({status}): unset it; only a running run can be "
        "joined"
    )
    assert client(store).get_run(run).to_dictionary() == before


def test_a_deleted_one_neither(store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", a_run(store, tmp_path, deleted=True))
    assert "has ended (deleted)" in refusal(store, tmp_path)


@pytest.mark.parametrize("run", ["0" * 32, "no-such-run", "../../etc", "[bold]x", "é" * 500])
def test_an_unknown_run_is_refused_before_work(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    track(store, tmp_path, "first")
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    assert "names no run of sqlite:///" in refusal(store, tmp_path)
    assert os.environ["MLFLOW_RUN_ID"] == run


def test_a_running_run_becomes_the_parent_each_time(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = a_run(store, tmp_path)
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    for name in ("one", "two"):  # as `benchmark -m` tracks several in one process
        run = client(store).get_run(track(store, tmp_path, name))
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.info.status == "FINISHED"
    assert client(store).get_run(parent).info.status == "RUNNING"
    assert client(store).get_run(parent).data.params == {}
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(f"this run is nested in MLFLOW_RUN_ID='{parent}'") == 2
    assert "not used" not in said


FOREIGN = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_EXPERIMENT_NAME": "theirs",
    "MLFLOW_EXPERIMENT_ID": "77", "MLFLOW_REGISTRY_URI": "sqlite:///theirs.db", "MLFLOW_NESTED_RUN": "true",
    "MLFLOW_ARTIFACT_URI": "/theirs", "MLFLOW_ENABLE_ASYNC_LOGGING": "true", "MLFLOW_TRACKING_DIR": "x",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": "sqlite:///theirs.db", "MLFLOW_RUN_CONTEXT": '{"mine": "no"}',
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "/theirs",
}  # fmt: skip


def test_our_setting_wins_and_what_is_not_used_is_named_in_one_line(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    for name in ("one", "two"):
        run = client(store).get_run(track(store, tmp_path, name))
        assert run.info.experiment_id == client(store).get_experiment_by_name("test").experiment_id
        assert run.data.params == {"made": "by us"}
        assert "mine" not in run.data.tags
        assert [line for line in capsys.readouterr().err.splitlines() if "not used" in line] == [
            f"MLflow: {', '.join(sorted(FOREIGN))} of the environment are not used: tracking.uri and "
            "tracking.experiment decide"
        ]
    assert {name: os.environ[name] for name in FOREIGN} == FOREIGN
    assert list(tmp_path.iterdir()) == []


def test_what_says_how_to_reach_a_server_is_used_and_not_named(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN", "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_WORKSPACE")
    for name in kept:
        monkeypatch.setenv(name, "x")
    with tracking.opened(store, "ours", tmp_path):
        assert all(os.environ[name] == "x" for name in kept)
    assert "not used" not in capsys.readouterr().err
    assert "MLFLOW_TRACKING_URI" not in os.environ  # MLflow sets it, for the next of us to stumble over


def test_off_neither_reads_nor_names_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "no-such-run")
    with tracking.opened(Tracking(uri=None, experiment="e"), "demo", tmp_path):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("call", ["start_run", "log_params", "log_text", "set_tags", "end_run"])
def test_a_run_that_is_not_whole_is_said_to_be_so_at_the_end_and_the_next_is_tracked(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    genuine: Callable[..., object] = getattr(mlflow, call)
    broken = [True]

    def fails(*values: object, **named: object) -> object:
        if broken:
            broken.clear()
            raise ConnectionError("[red]gone[/red]")
        return genuine(*values, **named)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, call, fails)
        with tracking.opened(store, "ours", tmp_path) as tracker:
            tracker.params({"a": 1})
    assert tracker.lost == "[red]gone[/red]"
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == (
        f"MLflow at {store.uri} has this run only in part, or not at all: it stopped answering "
        "([red]gone[/red])"
    )
    assert mlflow.active_run() is None
    with tracking.opened(store, "next", tmp_path) as tracker:
        tracker.params({"a": 1})
    assert tracker.lost is None


def test_an_exception_in_the_work_is_not_hidden_by_a_lost_store(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(mlflow, "log_params", gone)
    with pytest.raises(KeyboardInterrupt), tracking.opened(store, "ours", tmp_path) as tracker:
        tracker.params({"a": 1})
        raise KeyboardInterrupt


def started(folder: Path, name: str) -> int:
    """Track a run in a process of its own, with MLflow imported already; its id."""

    def work() -> None:
        store = Tracking(uri=f"sqlite:///{folder}/mlflow.db", experiment="t")
        with tracking.opened(store, "quantize", folder, name=name) as tracker:
            tracker.params({"a": 1})
        assert tracker.lost is None

    return forked(work)


def test_several_first_starts_at_once_on_one_new_store(tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    assert [ended(pid) for pid in [started(tmp_path, name) for name in names]] == [0, 0, 0]
    found = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = found.search_runs([found.get_experiment_by_name("t").experiment_id])
    states = {run.data.tags["mlflow.runName"]: run.info.status for run in runs}
    assert states == dict.fromkeys(names, "FINISHED")


def test_a_first_start_that_is_killed_leaves_no_half_of_a_store(tmp_path: Path) -> None:
    pid = started(tmp_path, "one")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".mlflow.db.*.new")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert ended(started(tmp_path, "two")) == 0


def test_another_program_that_makes_the_same_store_is_waited_for(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, failures = mlflow.set_experiment, ["database is locked", "table metrics already exists"]

    def busy(name: str) -> object:
        if failures:
            raise RuntimeError(failures.pop())
        return genuine(name)

    monkeypatch.setattr(tracking_store, "_PAUSE", 0.0)
    monkeypatch.setattr(mlflow, "set_experiment", busy)
    track(store, tmp_path, "ours")
    assert failures == []


def test_runs_that_name_one_dataset_at_once_all_get_it(store: Tracking, tmp_path: Path) -> None:
    """MLflow looks for the dataset's row and then adds it, so that one of two runs finds it taken."""
    track(store, tmp_path, "first")
    digest = tmp_path.name.encode().hex().zfill(64)[:64]

    def work() -> None:
        with tracking.opened(store, "ours", tmp_path) as tracker:
            until = time.time() // 1 + 1.5
            time.sleep(max(0.0, until - time.time()))
            for number in range(5):
                named = {f"texts-{number}": {"digest": digest}}
                tracker.datasets(named, {f"texts-{number}": {"repository": "local", "splits": ["train"]}})
        assert tracker.lost is None

    assert [ended(pid) for pid in [forked(work) for _ in range(4)]] == [0] * 4


def test_a_store_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("my notes")
    said = refusal(Tracking(uri=f"sqlite:///{path}", experiment="test"), tmp_path)
    assert "file is not a database" in said
    assert f"if {path} is damaged, move it away" in said
    assert path.read_text() == "my notes"


def test_a_store_with_nowhere_to_stand_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(Tracking(uri=f"sqlite:///{tmp_path}/file/mlflow.db", experiment="test"), tmp_path)
    assert said.startswith(f"{tmp_path}/file: ") and "choose another" in said
