"""Which documents stand for a stage: those of this very manifest and of what is requested now."""

from pathlib import Path
from typing import Any

import pytest
from card import making

from proofcard import manifest
from proofcard.digest import readable_json
from proofcard.run import finished, request
from proofcard.run.request import Request
from proofcard.run.target import Target
from proofcard.serve import truth


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Request:
    work_dir = tmp_path_factory.getbasetemp() / "finished" / "runs"
    return request.read(["recipe=demo", f"work_dir={work_dir}"])


@pytest.fixture
def target(asked: Request) -> Target:
    folder = asked.recipe.work_dir.parent
    folder.mkdir(exist_ok=True)
    if not (folder / "checkpoint").exists():
        making.checkpoint(folder)
    sealed = manifest.read(folder / "checkpoint")
    return Target(folder / "source", folder / "checkpoint", sealed.key, sealed)


def about(asked: Request, target: Target) -> dict[str, dict[str, Any]]:
    """Documents that fit everything that is requested."""
    found = making.documents(target.folder)
    serving = asked.config.serving.model_dump(mode="json", exclude={"api_key_file"})
    verdicts = [{"prompt": one.prompt} for one in truth.questions(asked.config.truth).values()]
    found["runs/serve/one-001/session.json"] |= {
        "profile": serving | {"served_model_name": "x"},
        "known_answers": {"sound": True, "at_least": asked.config.truth.at_least, "verdicts": verdicts},
    }
    found["runs/benchmarks/one-001/results.json"] |= {
        "load": asked.config.benchmark.identity(), "serving": asked.config.serving.identity()
    }  # fmt: skip
    return found


def reused(asked: Request, target: Target, found: dict[str, dict[str, Any]]) -> set[str]:
    making.write(target.folder.parent, found)
    return set(finished.reused(asked, target))


def test_documents_of_this_checkpoint_and_configuration_stand_for_their_stages(
    asked: Request, target: Target
) -> None:
    found = about(asked, target)
    assert reused(asked, target, found) == {"quantize", "verify", "analyse", "serve", "benchmark"}
    unsealed = Target(target.source, target.folder, target.key, None)
    assert reused(asked, unsealed, found) == set()


@pytest.mark.parametrize(
    ("document", "steps", "value", "stage"),
    [
        ("checkpoint.verification.json", "manifest/sha256", "0" * 64, "verify"),
        ("checkpoint.verification.json", "result", "differs", "verify"),
        ("checkpoint.verification.json", "levels/weights/result", "not requested", "verify"),
        ("checkpoint.analysis/analysis.json", "checkpoint/key", "0" * 64, "analyse"),
        ("runs/serve/one-001/session.json", "profile/engine", "vllm", "serve"),
        ("runs/serve/one-001/session.json", "known_answers/sound", False, "serve"),
        ("runs/serve/one-001/session.json", "known_answers/verdicts", [], "serve"),
        ("runs/benchmarks/one-001/results.json", "load/waves", 99, "benchmark"),
        ("runs/benchmarks/one-001/results.json", "serving/port", 99, "benchmark"),
        ("runs/benchmarks/one-001/results.json", "complete", False, "benchmark"),
    ],
)
def test_whatever_is_another_s_or_less_than_requested_is_made_again(
    asked: Request, target: Target, document: str, steps: str, value: Any, stage: str
) -> None:
    found = about(asked, target)
    inner: Any = found[document]
    *path, last = steps.split("/")
    for step in path:
        inner = inner[step]
    inner[last] = value
    expected = {"quantize", "verify", "analyse", "serve", "benchmark"} - {stage}
    assert reused(asked, target, found) == expected


def test_a_plan_is_of_this_configuration_or_none(asked: Request, target: Path) -> None:
    path = asked.recipe.work_dir / "plans" / "demo.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = making.loaded(making.GOLDEN.parents[1] / "audit" / "minimax_m2_7_nvfp4_as_run.plan.json")
    path.write_text(readable_json(values))
    assert finished.plan(asked) is None
    path.write_text(readable_json(values | {"config": asked.recipe.identity()}))
    assert finished.plan(asked) is not None
    path.unlink()
