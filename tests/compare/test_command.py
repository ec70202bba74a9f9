"""`compare`: what it counts is what was changed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from running import command
from safetensors.torch import load_file, save_file

from proofcard import manifest

EXPERT = "model.layers.1.block_sparse_moe.experts.5.w1"
ATTENTION = "model.layers.0.self_attn.q_proj.weight"
KV = "model.layers.2.self_attn.k_proj.k_scale"


@pytest.fixture(scope="module")
def edited(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint with a packed byte, a scale and a dtype changed, a tensor gone, and no seal."""
    folder = tmp_path_factory.mktemp("edited") / "edited"
    shutil.copytree(demo, folder)
    (folder / "manifest.json").unlink()
    for shard in folder.glob("*.safetensors"):
        tensors = load_file(shard)
        if f"{EXPERT}.weight" in tensors:
            tensors[f"{EXPERT}.weight"].view(-1)[7] ^= 0x10
            tensors[f"{EXPERT}.input_scale"] *= 2
        if ATTENTION in tensors:
            tensors[ATTENTION] = tensors[ATTENTION].to(torch.float32)
        tensors.pop(KV, None)
        save_file(tensors, shard, {"format": "pt"})
    return folder


def compared(a: Path, b: Path, cwd: Path) -> dict[str, Any]:
    said = command("compare", f"a={a}", f"b={b}", "report=report", "tracking=off", cwd=cwd)
    assert said.returncode == 0, said.stderr
    told: dict[str, Any] = json.loads((cwd / "report" / "comparison.json").read_text())
    assert str(cwd) not in (cwd / "report" / "report.md").read_text() + json.dumps(told)
    return told


def test_a_checkpoint_does_not_differ_from_itself(demo: Path, tmp_path: Path) -> None:
    told = compared(demo, demo, tmp_path)
    assert not told["configuration"] and not told["statistics"]
    assert sum(group["tensors"] for group in told["tensors"]) == told_tensors(demo)
    assert not any(group["differ"] for group in told["tensors"])


def test_every_change_is_counted_where_it_was_made_and_nowhere_else(
    demo: Path, edited: Path, tmp_path: Path
) -> None:
    groups = {(g["role"], g["dtype_a"], g["dtype_b"]): g for g in compared(demo, edited, tmp_path)["tensors"]}
    changed = {key for key, group in groups.items() if group["differ"]}
    assert changed == {
        ("experts", "U8", "U8"),
        ("experts input_scale", "F32", "F32"),
        ("attention", "BF16", "F32"),
        ("KV cache scales", "F32", ""),
    }
    assert groups["experts", "U8", "U8"]["bytes_differ"] == 1
    scales = groups["experts input_scale", "F32", "F32"]
    assert scales["differ"] == 1 and scales["steps"] == 1 << 23  # one exponent of FP32
    assert scales["ratio"] == {"smallest": 2, "median": 2, "largest": 2}
    assert groups["attention", "BF16", "F32"]["rounded"] == 1
    assert groups["KV cache scales", "F32", ""]["tensors"] == 1


@pytest.fixture(scope="module")
def flipped(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint under its old seal, fifty bytes of weights and one of the tokenizer flipped."""
    folder = tmp_path_factory.mktemp("flipped") / "flipped"
    shutil.copytree(demo, folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    size = len(content)
    for place in range(size // 2, size // 2 + 50 * 997, 997):
        content[place] ^= 0x40
    weights.write_bytes(content)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b" ", b"\t", 1))
    return folder


def test_bytes_under_an_old_seal_are_compared_and_the_seal_is_said_to_be_broken(
    demo: Path, flipped: Path, tmp_path: Path
) -> None:
    told = compared(demo, flipped, tmp_path)
    groups = told["tensors"]
    assert sum(group["bytes_differ"] for group in groups) == 50
    assert 0 < sum(group["differ"] for group in groups) <= 50
    assert told["a"]["altered"] == [] and told["b"]["altered"] == ["model.safetensors", "tokenizer.json"]
    assert [each["name"] for each in told["files"]] == ["tokenizer.json"]
    page = (tmp_path / "report" / "report.md").read_text()
    assert "Not what was sealed" in page and "| tokenizer.json | differs |" in page


def test_a_table_that_was_altered_tells_nothing(demo: Path, tmp_path: Path) -> None:
    harmed = Path(shutil.copytree(demo, tmp_path / "harmed"))
    table = harmed / "calibration_coverage.csv"
    table.write_text(table.read_text().replace("0", "9"))
    told = compared(demo, harmed, tmp_path)
    assert told["coverage"][0] and told["coverage"][1] is None
    assert told["b"]["altered"] == ["calibration_coverage.csv"]
    assert not any(group["differ"] for group in told["tensors"])


def test_a_manifest_of_another_form_is_refused(demo: Path, tmp_path: Path) -> None:
    """Whoever seals anew can seal anything: missing parts, other types, names outside the folder."""
    forged = Path(shutil.copytree(demo, tmp_path / "forged"))
    body = manifest.read(forged).values()
    del body["seal"]
    for change in (
        {"outputs": {}}, {"outputs": {"files": [], "tensors": {}}}, {"config": []}, {"statistics": 7},
        {"outputs": body["outputs"] | {"files": {"../secret": {"size": 1, "sha256": "0"}}}},
        {"outputs": body["outputs"] | {"files": {"a": {"size": True, "sha256": "0"}}}}, {"key": None},
    ):  # fmt: skip
        (forged / "manifest.json").write_text(manifest.seal(body | change))
        with pytest.raises(manifest.ManifestError, match="is not a valid manifest of this version"):
            manifest.read(forged)
    (forged / "manifest.json").write_text(manifest.seal(body | {"config": {"recipe": "none"}}))
    assert compared(demo, forged, tmp_path)["b"]["recipe"] is None


def test_what_is_no_checkpoint_is_said_before_anything_is_written(demo: Path, tmp_path: Path) -> None:
    said = command("compare", f"a={demo}", f"b={tmp_path / 'none'}", "report=report", cwd=tmp_path)
    assert said.returncode == 2 and "none does not exist" in said.stderr
    assert not list(tmp_path.iterdir())


def told_tensors(folder: Path) -> int:
    return len(json.loads((folder / "manifest.json").read_text())["outputs"]["tensors"])
