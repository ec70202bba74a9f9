"""Other architectures and KV formats through the same command, each verified against its source."""

import json
from pathlib import Path

import pytest
from running import command, quantize, tiny, tiny_recipe

from proofcard.checkpoint import defaults
from proofcard.checkpoint.tensors import read_folder


@pytest.mark.parametrize(
    ("architecture", "kv_cache", "extra"),
    [
        ("mixtral", "fp8", ()),
        ("mixtral", "none", ("coverage=natural",)),
        ("qwen3_moe", "fp8_affine", ()),
        ("llama", "fp8", ("quantization=nvfp4_mlp_only", "calibration.padding_side=right")),
        ("gemma3_text", "fp8", ("quantization=nvfp4_mlp_only",)),  # tied, and its config.json does not say so
        ("gemma3_text", "fp8", ("quantization=nvfp4_mlp_only", "engine=modelopt")),
    ],
)
def test_it_quantizes_and_verifies(
    tmp_path: Path, texts: Path, architecture: str, kv_cache: str, extra: tuple[str, ...]
) -> None:
    source = tiny(tmp_path / "source", architecture)
    made = quantize(tmp_path, *tiny_recipe(source, texts), f"kv_cache={kv_cache}", *extra)
    said = command("verify", f"checkpoint={made}", f"source={source}", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    tensors = read_folder(made)
    kinds = {name.rsplit(".", 1)[1] for name in tensors if ".self_attn." in name}
    expected = {"fp8": {"k_scale", "v_scale"}, "fp8_affine": {"k_scale", "v_scale", "k_bias", "v_bias"}}
    assert kinds & {"k_scale", "v_scale", "k_bias", "v_bias"} == expected.get(kv_cache, set())
    packed = [name for name in tensors if name.endswith(".weight_scale_2")]
    layers = json.loads((source / "config.json").read_text())["num_hidden_layers"]
    assert len(packed) == layers * 3 * (1 if architecture in ("llama", "gemma3_text") else 4)
    algorithm = json.loads((made / "hf_quant_config.json").read_text())["quantization"]["kv_cache_quant_algo"]
    assert algorithm == (None if kv_cache == "none" else "FP8")


def test_a_source_that_lacks_a_weight_is_named(tmp_path: Path, texts: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = tiny(tmp_path / "source", "mixtral")
    weights = load_file(source / "model.safetensors")
    gone = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    del weights[gone]
    save_file(weights, source / "model.safetensors")
    said = command("quantize", "tracking=off", "output_dir=out", *tiny_recipe(source, texts), cwd=tmp_path)
    assert said.returncode == 2
    assert f"is incomplete: {gone}" in said.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["layerwise", "modelopt"])
def test_a_format_that_selects_nothing_stops_before_the_first_batch(
    tmp_path: Path, texts: Path, engine: str
) -> None:
    asked = ("tracking=off", "output_dir=out", f"engine={engine}")
    source = tiny(tmp_path / "source", "llama")
    said = command("quantize", *asked, *tiny_recipe(source, texts), cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith("quantize: the quantization format selects no module")
    assert not (tmp_path / "out").exists() and not (tmp_path / "runs" / "samples").exists()


def test_a_quantized_source_is_refused(tmp_path: Path, texts: Path) -> None:
    source = tiny(tmp_path / "source", "mixtral")
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "modelopt"}
    (source / "config.json").write_text(json.dumps(config))
    said = command("quantize", "tracking=off", *tiny_recipe(source, texts), cwd=tmp_path)
    assert said.returncode == 2
    assert "already quantized (modelopt)" in said.stderr


def test_float32_is_refused_for_a_source_without_fp8(tmp_path: Path, texts: Path) -> None:
    source = tiny(tmp_path / "source", "mixtral")
    asked = ("tracking=off", "quantization.dequantize_to=float32")
    said = command("quantize", *asked, *tiny_recipe(source, texts), cwd=tmp_path)
    assert said.returncode == 2
    assert "dequantize_to=float32 is for FP8 sources" in said.stderr
    assert not (tmp_path / "runs" / "samples").exists()


@pytest.mark.parametrize(("architecture", "said"), [("llama", True), ("gemma3_text", None)])
@pytest.mark.parametrize("engine", ["layerwise", "modelopt"])
def test_a_source_that_ties_two_different_embeddings_is_refused(
    tmp_path: Path, texts: Path, architecture: str, said: bool | None, engine: str
) -> None:
    """One of them would be lost; with an equal one nothing is."""
    from safetensors.torch import load_file, save_file

    source = tiny(tmp_path / "source", architecture)
    assert json.loads((source / "config.json").read_text()).get("tie_word_embeddings") is said
    weights = load_file(source / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    asked = ("tracking=off", "output_dir=out", f"engine={engine}", *tiny_recipe(source, texts))
    found = command("quantize", *asked, "quantization=nvfp4_mlp_only", cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert "its lm_head.weight is not its model.embed_tokens.weight" in found.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "runs" / "samples").exists()


def test_the_table_is_what_transformers_says() -> None:
    """Some classes, asked; `scripts/config_defaults.py` writes the table from all of them."""
    from transformers import Gemma3TextConfig, LlamaConfig, MixtralConfig

    for config in (LlamaConfig(), MixtralConfig(), Gemma3TextConfig()):
        for key in ("tie_word_embeddings", "rope_theta", "hidden_size", "attention_dropout"):
            assert defaults.default({"model_type": config.model_type}, key) == config.to_dict()[key], key
