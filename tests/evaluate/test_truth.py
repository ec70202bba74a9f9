"""Logits of our pass are those of transformers on the dequantized checkpoint, and of ModelOpt's model."""

import json
from pathlib import Path

import pytest
from evaluating import Pair
from running import ROOT, python, quantize, tiny, tiny_recipe
from several import DATASETS


@pytest.mark.parametrize(
    ("architecture", "extra"),
    [
        ("minimax", ()),
        ("mixtral", ()),
        ("qwen3_moe", ("kv_cache=fp8_affine",)),
        ("llama", ("quantization=nvfp4_mlp_only",)),
    ],
)
def test_logits_are_bit_equal(
    pair: Pair, tmp_path: Path, texts: Path, architecture: str, extra: tuple[str, ...]
) -> None:
    if architecture == "minimax":
        names = (*DATASETS, "llama_nemotron")
        recipe = [f"calibration.datasets.{name}.samples=1" for name in names]
        recipe += ["calibration.sequence_length=64"]
    elif architecture == "mixtral":
        recipe = pair.recipe
    else:
        recipe = [*tiny_recipe(tiny(tmp_path / "source", architecture), texts), *extra]
    checkpoint = pair.checkpoint if architecture == "mixtral" else quantize(tmp_path, *recipe)
    script = ROOT / "tests" / "evaluate" / "truth.py"
    said = python(script, str(tmp_path / "work"), str(checkpoint), *recipe, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout.splitlines()[-1])
    kv = "kv_affine" if "kv_cache=fp8_affine" in extra else "kv"
    equal = ["source", "w4a16", "modelopt w4a16", "modelopt w4a4", f"modelopt w4a4+{kv}"]
    assert {name: found[name]["differing"] for name in equal} == dict.fromkeys(equal, 0)
    apart = [name for name in found if " beside " in name]
    assert len(apart) >= 2 and all(found[name]["differing"] > 0 for name in apart)
