"""A document is linked to the run that holds exactly it, and to no other."""

from pathlib import Path

import pytest
from card import making

from proofcard import manifest, tracking
from proofcard.card import runs
from proofcard.card.command import run
from proofcard.config.schema import Tracking
from proofcard.evidence import gathered
from proofcard.tracking import Subject


def test_each_document_is_linked_to_the_run_that_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = making.checkpoint(tmp_path)
    making.write(tmp_path, making.documents(folder))
    monkeypatch.chdir(tmp_path)
    sealed = manifest.read(folder)
    store = Tracking(uri=f"sqlite:///{tmp_path}/runs/mlflow.db", experiment="proofcard")
    path = tmp_path / "runs/tasks/demo-001/tasks.json"
    for name, file in (("tasks first", path), ("tasks second", folder / "config.json")):
        with tracking.opened(store, "tasks", Path("runs"), subject=Subject(sealed.key), name=name) as tracker:
            tracker.file(file, "tasks")
    first = f"tasks first checkpoint-{sealed.key[:8]}"
    found = runs.found(store, Path("runs"), sealed.key, gathered(sealed, folder, Path("runs")))
    assert {name: one.name for name, one in found.items()} == {"tasks-demo.json": first}
    assert run(["checkpoint=checkpoint", f"tracking.uri={store.uri}"]) == 0
    assert f"{first} ({found['tasks-demo.json'].id})" in (folder / "README.md").read_text()
    path.unlink()
    assert run(["checkpoint=checkpoint", "check=true", "tracking=off", "work_dir=elsewhere"]) == 0


def test_a_store_on_a_server_gives_an_address() -> None:
    server = Tracking(uri="https://mlflow.example/", experiment="e")
    assert (
        runs._link(server, "7", "abc")
        == "https://mlflow.example/#/experiments/7/runs/abc?workflowType=machine_learning"
    )
    assert runs._link(Tracking(uri="sqlite:///x.db", experiment="e"), "7", "abc") is None
