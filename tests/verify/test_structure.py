"""A checkpoint that is not whole, sane or consistent, with and without its source at hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.making import (
    ARCHITECTURES,
    W1,
    W2,
    W3,
    Tensors,
    Verified,
    edit_json,
    load,
    make_checkpoint,
    make_source,
    save,
)

ONLY = ("structure",)
INDEX = "model.safetensors.index.json"
ATTENTION = "model.layers.0.self_attn*"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("with_source", [True, False])
def test_it_holds_for_each_architecture(tmp_path: Path, architecture: str, with_source: bool) -> None:
    source = make_source(tmp_path / "source", architecture, fp8=architecture == "minimax_m2")
    made = make_checkpoint(tmp_path / "made", source)
    verified = Verified(made, source if with_source else None, ONLY)
    assert verified.status == 0, verified.screen
    assert verified.level("structure")["counts"]["tensors"] == len(load(made))


def altered(checkpoint: Path, change: Callable[[Tensors], Any], shards: int = 2) -> Path:
    tensors = load(checkpoint)
    change(tensors)
    save(checkpoint, tensors, shards)
    return checkpoint


def ones(*shape: int) -> tuple[str, np.ndarray]:
    return "BF16", np.full(shape, 0x3F80, np.uint16)


def value(name: str, number: float) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: ("F32", np.float32(number))})


def byte(name: str, at: int, code: int) -> Callable[[Tensors], Any]:
    def change(tensors: Tensors) -> None:
        tensors[name][1].reshape(-1)[at] = code

    return change


def without(part: str) -> Callable[[Tensors], Any]:
    return lambda tensors: [tensors.pop(name) for name in list(tensors) if part in name]


LAYER = "model.layers.1"
EXPERT = f"{LAYER}.block_sparse_moe.experts.2."
DAMAGE: dict[str, tuple[Callable[[Tensors], Any], str, str]] = {
    "an expert is missing": (without(EXPERT), f"{EXPERT}w1.weight", "missing"),
    "an expert's linear is missing": (without(W2), f"{W2}.weight", "missing"),
    "an expert is one too many": (
        lambda t: t.update({n.replace("experts.2", "experts.3"): t[n] for n in list(t) if EXPERT in n}),
        f"{EXPERT.replace('2', '3')}w1.weight",
        "extra",
    ),
    "a layer is missing": (without(f"{LAYER}."), LAYER, "missing"),
    "a projection is missing": (without("1.self_attn.q_proj"), f"{LAYER}.self_attn.q_proj.weight", "missing"),
    "a norm is missing": (without("1.input_layernorm"), f"{LAYER}.input_layernorm", "missing"),
    "packed weight gone": (without(f"{W2}.weight"), f"{W2}.weight", "missing"),
    "a block scale gone": (lambda t: t.pop(f"{W2}.weight_scale"), f"{W2}.weight_scale", "missing"),
    "an input scale gone": (without(f"{W2}.input_scale"), f"{W2}.input_scale", "missing"),
    "a cache scale gone": (
        without("1.self_attn.k_proj.k_scale"), f"{LAYER}.self_attn.k_proj.k_scale", "missing",
    ),
    "NaN input scale": (value(f"{W2}.input_scale", np.nan), f"{W2}.input_scale", "mismatched"),
    "zero input scale": (value(f"{W2}.input_scale", 0), f"{W2}.input_scale", "mismatched"),
    "negative input scale": (value(f"{W2}.input_scale", -1), f"{W2}.input_scale", "mismatched"),
    "infinite scale_2": (value(f"{W2}.weight_scale_2", np.inf), f"{W2}.weight_scale_2", "mismatched"),
    "negative cache scale": (
        value(f"{LAYER}.self_attn.v_proj.v_scale", -0.1), f"{LAYER}.self_attn.v_proj.v_scale", "mismatched",
    ),
    "NaN block scale": (byte(f"{W2}.weight_scale", 9, 0x7F), f"{W2}.weight_scale", "mismatched"),
    "negative block scale": (byte(f"{W2}.weight_scale", 9, 0xB8), f"{W2}.weight_scale", "mismatched"),
    "zero block scale": (byte(f"{W2}.weight_scale", 9, 0), f"{W2}.weight_scale", "mismatched"),
    "gate and up differ": (value(f"{W3}.weight_scale_2", 0.5), f"{W3}.weight_scale_2", "mismatched"),
    "a scale of another shape": (
        lambda t: t.update({f"{W2}.weight_scale": ("F8_E4M3", np.full((64, 4), 56, np.uint8))}),
        f"{W2}.weight_scale",
        "mismatched",
    ),
    "a scale of another dtype": (
        lambda t: t.update({f"{W2}.input_scale": ("BF16", np.array(16256, np.uint16))}),
        f"{W2}.input_scale",
        "mismatched",
    ),
    "up is not quantized": (
        lambda t: [without(f"{W3}.")(t), t.update({f"{W3}.weight": ones(48, 64)})],
        f"{W3}.weight",
        "mismatched",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("with_source", [True, False])
def test_damage_is_named(checkpoint: Path, source: Path, name: str, with_source: bool) -> None:
    change, tensor, kind = DAMAGE[name]
    found = Verified(altered(checkpoint, change), source if with_source else None, ONLY)
    assert found.status == 1
    said = [(d["tensor"], d["kind"]) for d in found.differences("structure")]
    place = [pair for pair in said if pair[0] and pair[0].startswith(tensor)]
    assert place and place[0][1] == kind, said


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_an_embedding_is_missing(checkpoint: Path, source: Path, name: str) -> None:
    altered(checkpoint, without(name))
    assert Verified(checkpoint, source, ONLY).first("structure")["tensor"] == name
    assert "embedding or the output head" in Verified(checkpoint, None, ONLY).first("structure")["message"]


def test_source_alone_knows_of_a_tensor_that_no_layer_has(checkpoint: Path, source: Path) -> None:
    altered(checkpoint, without("post_attention_layernorm"))
    assert Verified(checkpoint, None, ONLY).status == 0
    assert len(Verified(checkpoint, source, ONLY).differences("structure")) == 2


def test_an_underflowed_block_may_have_scale_zero(tmp_path: Path) -> None:
    """Every matrix of a BF16 source here begins its second row with weights near 1e-7."""
    checkpoint = make_checkpoint(tmp_path / "made", make_source(tmp_path / "source", fp8=False))
    assert Verified(checkpoint, None, ONLY).status == 0
    scale, packed = (load(checkpoint)[f"{W2}.{leaf}"][1] for leaf in ("weight_scale", "weight"))
    assert scale[1, 0] == 0
    assert set(packed[1, :8].tolist()) <= {0x77, 0x7F, 0xF7, 0xFF}
    altered(checkpoint, byte(f"{W2}.weight", packed.shape[1], 0x76))
    found = Verified(checkpoint, None, ONLY).first("structure")
    assert found["tensor"] == f"{W2}.weight_scale"
    assert "but its codes are not all ±6" in found["message"]


def both(change: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    """The same change to the exclude list in both files."""

    def edit(folder: Path) -> None:
        edit_json(folder / "hf_quant_config.json", lambda c: change(c["quantization"]["exclude_modules"]))
        edit_json(folder / "config.json", lambda c: change(c["quantization_config"]["ignore"]))

    return edit


def quant(**change: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(
        folder / "hf_quant_config.json", lambda c: c["quantization"].update(change)
    )


def config(**change: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", lambda c: c.update(change))


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
CONFIGURED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pattern without a module": (both(lambda p: p.append("model.layers.7*")), "layers.7*' matches no module"),
    "a linear without a pattern": (both(lambda p: p.remove(ATTENTION)), "neither quantized nor excluded"),
    "a pattern over a quantized one": (both(lambda p: p.append("*.1.w2")), "exclude pattern covers it"),
    "other patterns in one file": (quant(exclude_modules=["lm_head"]), "excluded modules: "),
    "other algorithm": (quant(quant_algo="FP8"), "quant_algo: "),
    "other group size": (quant(group_size=32), "group_size"),
    "cache said to be unquantized": (quant(kv_cache_quant_algo=None), "the KV cache is not quantized"),
    "too few layers": (config(num_hidden_layers=1), "config.json declares 1 layers"),
    "too many layers": (config(num_hidden_layers=3), "config.json declares 3 layers"),
    "too many experts": (config(num_local_experts=4), "has 4 experts, but expert 3 does not have it"),
    "no config": (lambda f: (f / "config.json").unlink(), "every checkpoint has one"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "it is not JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "it is not a JSON object"),
    "patterns are no list": (quant(exclude_modules="lm_head"), "not a list of names"),
    "index names another file": (
        lambda f: edit_json(f / INDEX, lambda c: c["weight_map"].update({f"{W1}.weight": SHARDS[0]})),
        f"says {SHARDS[0]}; it is in {SHARDS[1]}",
    ),
    "index names no such tensor": (
        lambda f: edit_json(f / INDEX, lambda c: c["weight_map"].update(more=SHARDS[1])),
        f"says {SHARDS[1]}; it is in no file",
    ),
    "index is no index": (lambda f: (f / INDEX).write_text("[]"), "is not a JSON object"),
    "index is missing": (lambda f: (f / INDEX).unlink(), "nothing says which is where"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURED)
def test_what_the_configuration_says_is_held_against_it(checkpoint: Path, name: str) -> None:
    change, message = CONFIGURED[name]
    change(checkpoint)
    found = Verified(checkpoint, None, ONLY)
    assert found.status == 1, found.screen
    assert any(message in d["message"] for d in found.differences("structure")), found.screen


@pytest.mark.parametrize("gone", ["config", "hf_quant_config"])
def test_either_quantization_config_alone_is_enough(checkpoint: Path, gone: str) -> None:
    if gone == "config":
        edit_json(checkpoint / "config.json", lambda c: c.pop("quantization_config"))
    else:
        (checkpoint / "hf_quant_config.json").unlink()
    assert Verified(checkpoint, None, ONLY).status == 0


def test_another_layout_is_not_judged(checkpoint: Path, source: Path) -> None:
    (checkpoint / "hf_quant_config.json").unlink()
    edit_json(
        checkpoint / "config.json",
        lambda c: c["quantization_config"].update(quant_method="gptq"),
    )
    found = Verified(checkpoint, source, ("structure", "weights"))
    assert found.status == 2
    for level in ("structure", "weights"):
        assert "gptq" in found.level(level)["unchecked"]["listed"][0]


def test_a_tensor_in_two_files(checkpoint: Path) -> None:
    shard = sorted(checkpoint.glob("*.safetensors"))[0]
    (checkpoint / "other.safetensors").write_bytes(shard.read_bytes())
    beside = Verified(checkpoint, None, ONLY)
    assert beside.status == 0
    assert "other.safetensors is in no index" in " ".join(beside.screen.split())
    (checkpoint / INDEX).unlink()
    found = Verified(checkpoint, None, ONLY)
    assert found.status == 1
    assert "and again in other.safetensors" in found.first("structure")["message"]


def test_dense_and_sparse_layers_may_differ(tmp_path: Path) -> None:
    """One dense layer before sparse ones, as DeepSeek and some Qwen models have it."""
    source = make_source(tmp_path / "source", "qwen3_moe", fp8=False)
    tensors = load(source)
    without("layers.0.mlp.")(tensors)
    for name, shape in {"gate_proj": (48, 64), "up_proj": (48, 64), "down_proj": (64, 48)}.items():
        tensors[f"model.layers.0.mlp.{name}.weight"] = ones(*shape)
    save(source, tensors)
    made = make_checkpoint(tmp_path / "made", source)
    assert Verified(made, None, ONLY).status == 0, Verified(made, None, ONLY).screen
    assert Verified(made, source).status == 0
