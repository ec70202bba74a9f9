"""`verify` as a command: filed under its checkpoint where there is a store, its report as JSON on request."""

import json
from pathlib import Path

import mlflow
from mlflow.entities import Run
from running import command

from proofcard import manifest, tracking
from proofcard.config.schema import Tracking
from proofcard.tracking import Subject


def test_it_joins_the_run_of_its_checkpoint_whether_verified_or_not(
    checkpoint: Path, source: Path, tmp_path: Path
) -> None:
    key = manifest.read(checkpoint).key
    store = Tracking(uri=f"sqlite:///{tmp_path}/runs/mlflow.db", experiment="proofcard")
    with tracking.opened(store, "quantize", tmp_path / "runs", subject=Subject(key, "tiny"), makes=True):
        pass
    paths = (f"checkpoint={checkpoint}", f"source={source}")
    assert command("verify", *paths, cwd=tmp_path).returncode == 0
    (checkpoint / "more").write_text("extra")
    assert command("verify", *paths, "levels=[integrity]", cwd=tmp_path).returncode == 1
    client = mlflow.MlflowClient(store.uri)
    experiment = client.get_experiment_by_name("proofcard")
    found: list[Run] = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    parent, _, verified, differs = found
    for run, result in ((verified, "verified"), (differs, "differs")):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (run.data.tags["command"], run.data.tags["result"]) == ("verify", result)
        assert run.info.status == "FINISHED"
        files = {file.path for file in client.list_artifacts(run.info.run_id, "verification")}
        assert files == {"verification/checkpoint.verification.json", "verification/levels.json"}
    assert verified.data.params["source"] == str(source)
    assert verified.data.tags["level.weights"] == "holds"
    assert (verified.data.metrics["differences"], differs.data.metrics["differences"]) == (0, 1)
    assert verified.data.metrics["weights_proved"] == 1
    assert "level.weights" not in differs.data.tags


def test_it_makes_no_store(checkpoint: Path, tmp_path: Path) -> None:
    assert command("verify", f"checkpoint={checkpoint}", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "runs").exists()


def test_json_is_the_report_and_all_of_standard_output(checkpoint: Path, tmp_path: Path) -> None:
    done = command("verify", f"checkpoint={checkpoint}", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "checkpoint.verification.json").read_text()
    assert json.loads(done.stdout)["result"] == "verified"
    assert done.stderr.splitlines()[-1] == "verified"
