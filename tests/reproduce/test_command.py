"""`reproduce` by command: what was rebuilt, what was refused before any work, and what each is told."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import ROOT, command
from sealing import OTHER_CODE, changed, forged, put
from several import ranks, together

from proofcard import manifest
from proofcard.checkpoint import calibrated
from proofcard.checkpoint.tensors import read_folder

DATASET = "llama_nemotron"


def reproduce(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command("reproduce", "tracking=off", *words, cwd=cwd)


def report(cwd: Path) -> dict[str, Any]:
    [path] = (cwd / "runs" / "reproductions").glob("*.reproduction.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def checkpoint(small_demo: Path) -> Path:
    return next((small_demo / "runs" / "checkpoints").glob("demo-*"))


@pytest.fixture(scope="module")
def rebuilt(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which two ranks rebuilt the checkpoint of an earlier commit, samples and all."""
    cwd = tmp_path_factory.mktemp("rebuilt")
    changed(checkpoint(small_demo), cwd / "earlier.json", *OTHER_CODE)
    words = ["proofcard", "reproduce", "manifest=earlier.json", "tracking=off"]
    status, said, errors = together(ranks(2 * [words], cwd=cwd))
    assert status == 0, errors + said
    assert said.splitlines()[-1] == "reproduced bit for bit"
    return cwd


def test_an_earlier_commit_s_bytes_are_reproduced_by_other_code_and_the_code_is_named(rebuilt: Path) -> None:
    told = report(rebuilt)
    assert told["outcome"] == "reproduced"
    assert {"code", "samples code"} <= {one["what"] for one in told["differences"]}
    assert told["samples"]["drawn"]
    assert told["samples"]["recorded"] == told["samples"]["made"]
    assert told["files"]["equal"] == told["files"]["recorded"]


def test_two_ranks_give_the_bytes_of_one(small_demo: Path, rebuilt: Path) -> None:
    [made] = (path for path in (rebuilt / "runs" / "reproductions").iterdir() if path.is_dir())
    assert manifest.read(made).outputs == manifest.read(checkpoint(small_demo)).outputs


def test_the_document_names_no_time_host_or_path(rebuilt: Path) -> None:
    text = json.dumps(report(rebuilt))
    assert str(rebuilt) not in text
    assert str(ROOT) not in text


def test_a_run_of_mlflow_is_enough_and_gets_a_child_with_the_outcome(small_demo: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{small_demo}/runs/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "proofcard"]
    [parent] = client.search_runs([experiment.experiment_id], "tags.kind = 'checkpoint'")
    done = command("reproduce", f"run={parent.info.run_id}", cwd=small_demo)
    assert done.returncode == 0, done.stderr
    assert "environment: as recorded" in done.stderr
    assert "the recorded run took" in done.stderr
    assert "samples: the recorded set" in done.stderr
    [child] = client.search_runs([experiment.experiment_id], "tags.command = 'reproduce'")
    assert child.data.tags["outcome"] == "reproduced"
    assert child.data.tags["key"] == manifest.read(checkpoint(small_demo)).key
    assert child.data.metrics["tensors_reproduced"] == 1
    assert [one.path for one in client.list_artifacts(child.info.run_id, "reproduction")]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    # The same key again, without a difference of the environment: what was rebuilt is looked at once more.
    folder = checkpoint(small_demo)
    weight = next(name for name in manifest.read(folder).outputs.tensors if name.endswith("w1.weight"))
    changed(folder, small_demo / "edited.json", put("outputs", "tensors", weight, "sha256", value="0" * 64))
    edited = reproduce(small_demo, "manifest=edited.json")
    assert edited.returncode == 1, edited.stderr
    assert "rebuilt before: " in edited.stderr
    assert "the manifest's table may have been edited" in report(small_demo)["cause"]


def test_a_changed_seed_is_not_reproduced_and_the_samples_are_blamed(
    small_demo: Path, tmp_path: Path
) -> None:
    seed = put("config", "calibration", "sampling", "seed", value=43)
    seeds = put("seeds", "sampling", value=43)
    forged(checkpoint(small_demo), tmp_path / "seed.json", seed, seeds)
    done = reproduce(tmp_path, "manifest=seed.json")
    assert done.returncode == 1, done.stderr
    told = report(tmp_path)
    assert told["first"]["tensor"].endswith(("input_scale", "k_scale", "v_scale"))
    assert "such as calibration.sampling.seed" in told["cause"]
    assert done.stdout.splitlines()[-1] == "not reproduced"


def test_a_changed_row_is_not_reproduced_and_its_dataset_is_named(small_demo: Path, tmp_path: Path) -> None:
    rows = (ROOT / "demo" / "datasets" / DATASET / "train.jsonl").read_text().splitlines()
    taken = [
        record["row"]
        for line in next((small_demo / "runs" / "samples").glob("*/samples.jsonl")).read_text().splitlines()
        if (record := json.loads(line))["dataset"] == DATASET
    ]
    row = json.loads(rows[taken[0]])
    name, other = next(
        (k, json.loads(rows[taken[0] - 1])[k]) for k, v in row.items() if isinstance(v, list | str)
    )
    rows[taken[0]] = json.dumps(row | {name: other})
    (tmp_path / "train.jsonl").write_text("\n".join(rows) + "\n")
    done = reproduce(tmp_path, f"checkpoint={checkpoint(small_demo)}", f"datasets.{DATASET}=train.jsonl")
    assert done.returncode == 1, done.stdout
    assert f"the samples are not the recorded ones: dataset {DATASET} is" in report(tmp_path)["cause"]


# What follows only looks at a manifest again: the rebuilt checkpoint of `rebuilt` is taken.


def another_look(rebuilt: Path, small_demo: Path, *changes: Any) -> subprocess.CompletedProcess[str]:
    changed(checkpoint(small_demo), rebuilt / "look.json", *changes)
    return reproduce(rebuilt, "manifest=look.json")


def test_another_patch_series_is_told_before_and_blamed_after(rebuilt: Path, small_demo: Path) -> None:
    body = manifest.read(checkpoint(small_demo)).values()
    file = next(iter(body["toolchain"]["patches"]["files"]))
    weight = next(name for name in sorted(body["outputs"]["tensors"]) if name.endswith("w1.weight_scale"))
    done = another_look(
        rebuilt, small_demo, *OTHER_CODE,
        put("toolchain", "patches", "files", file, "after", value="0" * 64),
        put("outputs", "tensors", weight, "sha256", value="0" * 64),
    )  # fmt: skip
    assert done.returncode == 1
    assert "patches.files" in done.stderr
    told = report(rebuilt)
    assert told["first"]["tensor"] == weight
    assert told["cause"].startswith("patches.files.")
    strict = reproduce(rebuilt, "manifest=look.json", "strict=true")
    assert strict.returncode == 2
    assert "nothing was started" in strict.stderr


def one_step_up(folder: Path) -> tuple[str, str]:
    """A scale's name, and the digest that it would have one BF16 step above."""
    name, tensor = next((n, t) for n, t in read_folder(folder).items() if n.endswith("w2.input_scale"))
    amax = np.float32(calibrated.amax(name, tensor.raw().tobytes()) or 0)
    above = (np.array([amax]).view(np.uint32) + np.uint32(0x8000) >> 16) + 1 << 16
    value = (above.astype(np.uint32).view(np.float32) / np.float32(2688)).tobytes()
    assert calibrated.distance(name, value, tensor.raw().tobytes()) == 1
    return name, hashlib.sha256(value).hexdigest()


def test_a_gpu_s_scale_one_step_away_is_within_ulp_of_a_cpu_s(rebuilt: Path, small_demo: Path) -> None:
    name, digest = one_step_up(checkpoint(small_demo))
    scale = put("outputs", "tensors", name, "sha256", value=digest)
    gpu = [
        put("platform", field, value=value)
        for field, value in {"device": "cuda", "gpu": "NVIDIA H100", "driver": "575.51"}.items()
    ]
    done = another_look(rebuilt, small_demo, scale, *gpu)
    assert done.returncode == 3, done.stderr
    assert "to restore it: a machine with NVIDIA H100, driver 575.51" in done.stderr
    assert done.stdout.splitlines()[-1] == "weights reproduced bit for bit, calibration within 2 ULP"
    [far] = report(rebuilt)["distances"]
    assert (far["tensor"], far["ulp"]) == (name, 1)
    exact = another_look(rebuilt, small_demo, scale)
    assert exact.returncode == 1  # on the recorded platform nothing may differ
