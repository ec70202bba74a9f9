"""What is planned is what is written, tensor by tensor."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, python, quantize, tiny, tiny_recipe

from proofcard.checkpoint.tensors import read_folder
from proofcard.errors import Stop
from proofcard.plan.weights import role
from proofcard.quantize.quantizers import check_reached


def planned(*overrides: str, kinds: int | None = None) -> dict[str, Any]:
    """What the plan says, equal in all three ways of counting; `kinds` of layers that it should see."""
    said = python(Path(__file__).with_name("entries.py"), *overrides, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    together, shared_out, by_kind, first = said.stdout.splitlines()
    assert shared_out == together  # however many processes count
    assert by_kind == together  # one layer counted for all of its kind
    assert kinds in (None, len(set(json.loads(first))))
    found: dict[str, Any] = json.loads(together)
    return found


def assert_written(said: dict[str, Any], checkpoint: Path) -> None:
    tensors = read_folder(checkpoint).values()
    assert said["tensors"] == {t.name: [t.dtype, list(t.shape), t.size] for t in tensors}
    assert said["files"] == {p.name: p.stat().st_size for p in checkpoint.glob("*.safetensors")}


def config_only(source: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copyfile(source / "config.json", folder / "config.json")
    return folder


@pytest.fixture(scope="module")
def plan_of_demo() -> dict[str, Any]:
    return planned("recipe=demo", kinds=1)


def test_the_demo_is_planned_as_it_is_written(plan_of_demo: dict[str, Any], demo: Path) -> None:
    assert_written(plan_of_demo, demo)
    assert plan_of_demo["quantizers"] == [336, 336]
    assert len(plan_of_demo["tensors"]) == 615


WORDS = {
    "mixtral": (),
    "qwen3_moe": ("kv_cache=fp8_affine",),
    "llama": ("quantization=nvfp4_mlp_only",),
}


@pytest.mark.parametrize("architecture", WORDS)
def test_config_json_alone_is_enough(architecture: str, tmp_path: Path, texts: Path) -> None:
    """Affine biases are planned as they are written, too: one for keys and one for values of each layer."""
    source, extra = tiny(tmp_path / "source", architecture), WORDS[architecture]
    only = config_only(source, tmp_path / "config")
    said = planned(*tiny_recipe(only, texts), *extra, kinds=1)
    assert_written(said, quantize(tmp_path / "made", *tiny_recipe(source, texts), *extra))
    assert said["quantizers"][0] == said["quantizers"][1]
    biases = [name for name in said["tensors"] if name.endswith((".k_bias", ".v_bias"))]
    assert len(biases) == (6 if "kv_cache=fp8_affine" in extra else 0)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("deepseek_v2", {}),  # dense, then experts
        ("qwen3_next", {}),  # linear attention, then full
        ("qwen3_moe", {"mlp_only_layers": [1]}),
    ],
)
def test_layers_of_two_kinds_are_counted_by_kind(
    architecture: str, settings: dict[str, Any], tmp_path: Path, texts: Path
) -> None:
    source = tiny(tmp_path / "source", architecture, **settings)
    planned(*tiny_recipe(config_only(source, tmp_path / "config"), texts), "kv_cache=none", kinds=2)


def test_float32_makes_what_is_not_quantized_and_was_fp8_twice_as_large(plan_of_demo: dict[str, Any]) -> None:
    plain, wide = plan_of_demo, planned("recipe=demo", "quantization.dequantize_to=float32")
    changed = {name for name, what in plain["tensors"].items() if wide["tensors"][name] != what}
    assert len(changed) == 12
    assert all(name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "o_proj") for name in changed)
    for name in changed:
        dtype, shape, size = plain["tensors"][name]
        assert (dtype, wide["tensors"][name]) == ("BF16", ["F32", shape, 2 * size])


def test_an_expert_that_stays_unquantized_stops() -> None:
    names = ["model.layers.0.mlp.experts.0.up_proj", "model.layers.0.mlp.experts.1.up_proj", "lm_head"]
    with pytest.raises(
        Stop, match=r"experts\.1\.up_proj and 0 more expert projections would stay unquantized"
    ):
        check_reached(names, {names[0]}, ["attention"], "fp8")
    check_reached(names, set(names[:2]), ["attention"], "fp8")


def test_a_kv_format_without_a_quantizer_stops() -> None:
    with pytest.raises(Stop, match="kv_cache=fp8, but ModelOpt puts no KV quantizer"):
        check_reached([], set(), [], "fp8")
    check_reached([], set(), [], "none")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3.block_sparse_moe.experts.7.w1.weight", "experts"),
        ("model.layers.3.block_sparse_moe.experts.7.w1.weight_scale", "experts weight_scale"),
        ("model.layers.3.mlp.experts.7.gate_proj.weight", "experts"),
        ("model.layers.3.mlp.gate_proj.weight", "MLP"),
        ("model.layers.3.mlp.gate.weight", "router"),
        ("model.layers.3.block_sparse_moe.e_score_correction_bias", "router"),
        ("model.layers.3.self_attn.q_norm.weight", "norms"),
        ("model.layers.3.self_attn.k_proj.k_scale", "KV cache scales"),
        ("model.layers.3.self_attn.k_proj.weight", "attention"),
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "output head"),
    ],
)
def test_roles(name: str, expected: str) -> None:
    assert role(name) == expected
