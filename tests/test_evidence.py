"""Which documents are about a checkpoint, and which of several counts."""

import os
from pathlib import Path

import pytest
from card import making

from proofcard import manifest
from proofcard.errors import Stop
from proofcard.evidence import checkpoint_of, contains, gathered, opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint and one document of each kind about it."""
    made = making.checkpoint(tmp_path)
    making.write(tmp_path, making.documents(made))
    return made


def kinds(folder: Path) -> list[str]:
    sealed = manifest.read(folder)
    return [one.kind for one in gathered(sealed, folder, folder.parent / "runs")]


def test_every_kind_is_found_in_its_place(folder: Path) -> None:
    assert kinds(folder) == [
        "verification", "analysis", "evaluation", "reproduction", "serving", "benchmark", "tasks", "agentic",
        "audit",
    ]  # fmt: skip


def test_of_one_name_the_newest_counts_and_another_name_is_beside_it(folder: Path) -> None:
    values = making.loaded(folder.parent / "runs/benchmarks/one-001/results.json")
    newer = values | {"dialect": "newer"}
    making.write(folder.parent, {
        "runs/benchmarks/one-002/results.json": newer,
        "runs/benchmarks/two-001/results.json": values | {"name": "two"},
    })  # fmt: skip
    os.utime(folder.parent / "runs/benchmarks/one-001/results.json", (1, 1))
    found = gathered(manifest.read(folder), folder, folder.parent / "runs")
    of = {one.name: one.values.get("dialect") for one in found if one.kind == "benchmark"}
    assert of == {"one": "newer", "two": None}


def test_what_is_of_another_checkpoint_incomplete_or_no_document_is_left_out(folder: Path) -> None:
    values = making.loaded(folder.parent / "runs/benchmarks/one-001/results.json")
    making.write(folder.parent, {"runs/benchmarks/one-001/results.json": values | {"complete": False}})
    (folder.parent / "checkpoint.analysis/analysis.json").write_text("{")
    (folder.parent / "checkpoint.verification.json").write_text('{"schema": "proofcard/verification/1"}')
    (folder.parent / "runs/serve/one-001/session.json").write_text('{"schema": ["proofcard/serving/1"]}')
    assert kinds(folder) == ["evaluation", "reproduction", "tasks", "agentic", "audit"]


def test_a_plan_is_about_a_checkpoint_by_its_configuration(folder: Path) -> None:
    config = manifest.read(folder).config
    plan = {"schema": "proofcard/plan/1", "config": config | {"further": 1}}
    making.write(folder.parent, {"runs/plans/local.json": plan})
    assert "plan" in kinds(folder)
    making.write(folder.parent, {"runs/plans/local.json": plan | {"config": config | {"seed": 5}}})
    assert "plan" not in kinds(folder)


def test_containing_looks_inside_objects_only() -> None:
    assert contains({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}})
    assert not contains({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}})
    assert not contains({"a": [1, 2]}, {"a": [1]})
    assert not contains(None, {"a": 1})


def test_a_document_is_not_followed_out_of_its_folder(folder: Path, tmp_path: Path) -> None:
    inside = folder / ".proofcard"
    inside.mkdir()
    (inside / "tasks.json").symlink_to(folder.parent / "runs/tasks/demo-001/tasks.json")
    assert opened(inside / "tasks.json", folder) is None


def test_only_a_sealed_checkpoint_will_do(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="is not a folder"):
        checkpoint_of(tmp_path / "none")
    with pytest.raises(Stop, match="never sealed"):
        checkpoint_of(tmp_path)
