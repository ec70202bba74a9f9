"""What other models and makers rightly do is not called damaged: a note, or `not checked` where only a source
tells. Many faults of one kind are one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.making import Tensors, Verified, edit_json, load, make_checkpoint, make_source, save

ONLY = ("structure",)
BOTH = ("structure", "weights")
LAYER0, LAYER1 = "model.layers.0", "model.layers.1"


def altered(folder: Path, change: Callable[[Tensors], Any]) -> Path:
    tensors = load(folder)
    change(tensors)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    save(folder, tensors)
    return folder


def bf16(*shape: int, seed: int = 0) -> tuple[str, np.ndarray]:
    return "BF16", np.random.default_rng(seed).integers(0x3C00, 0x3F00, shape).astype(np.uint16)


def without(*parts: str) -> Callable[[Tensors], Any]:
    return lambda t: [t.pop(name) for name in list(t) if any(part in name for part in parts)]


def exclude(folder: Path, *patterns: str) -> None:
    edit_json(folder / "config.json", lambda c: c["quantization_config"]["ignore"].extend(patterns))
    edit_json(
        folder / "hf_quant_config.json", lambda c: c["quantization"]["exclude_modules"].extend(patterns)
    )


def both(folders: tuple[Path, ...], change: Callable[[Tensors], Any]) -> None:
    for folder in folders:
        altered(folder, change)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A BF16 Qwen3-MoE and its checkpoint, unsealed."""
    source = make_source(tmp_path / "source", "qwen3_moe", fp8=False)
    made = make_checkpoint(tmp_path / "made", source)
    (made / "manifest.json").unlink()
    return source, made


def held(pair: tuple[Path, Path]) -> list[str]:
    """It holds with its source and alone; the notes of the latter."""
    found = Verified(pair[1], pair[0], BOTH)
    assert found.status == 0, found.screen
    alone = Verified(pair[1], None, ONLY)
    assert alone.status == 0, alone.screen
    return list(alone.level("structure")["notes"])


def test_a_cache_without_stored_scales_is_a_note(pair: tuple[Path, Path]) -> None:
    """`fp8_cast` of newer hf_ptq."""
    altered(pair[1], without("k_scale", "v_scale"))
    assert any("engines use 1.0" in note for note in held(pair))


def test_our_own_calibrated_scales_may_not_be_left_out(tmp_path: Path, source: Path) -> None:
    from verify.making import reseal

    made = make_checkpoint(tmp_path / "made", source)
    altered(made, without("k_scale", "v_scale"))
    reseal(made, source, {"kv_cache": {"format": "fp8"}})
    found = Verified(made, source)
    assert found.status == 1
    assert "the recipe calibrated" in found.first("structure")["message"]
    for name, keys in (("config.json", "kv_cache_scheme"), ("hf_quant_config.json", "kv_cache_quant_algo")):
        part = "quantization_config" if name == "config.json" else "quantization"
        edit_json(made / name, lambda c, part=part, keys=keys: c[part].pop(keys))
    assert "the recipe quantized the KV cache" in Verified(made, source).first("structure")["message"]


def prediction(tensors: Tensors) -> None:
    """A multi-token-prediction layer as DeepSeek has it: a decoder layer with more, its cache unscaled."""
    for name in [name for name in tensors if name.startswith(f"{LAYER1}.") and "experts" not in name]:
        if not name.endswith(("k_scale", "v_scale")):
            tensors[name.replace("layers.1", "layers.2")] = tensors[name]
    for number, name in enumerate(("eh_proj", "shared_head.head")):
        tensors[f"model.layers.2.{name}.weight"] = bf16(64, 64, seed=number)
    tensors["model.layers.2.enorm.weight"] = bf16(64)


@pytest.mark.parametrize("key", ["num_nextn_predict_layers", "num_mtp_modules"])
def test_layers_for_multi_token_prediction(pair: tuple[Path, Path], key: str) -> None:
    both(pair, prediction)
    for folder in pair:
        edit_json(folder / "config.json", lambda c: c.update({key: 1}))
    exclude(pair[1], "model.layers.2*")
    assert any("1 layers beyond the counted ones" in note for note in held(pair))


def test_patterns_for_prediction_layers_that_are_not_stored(pair: tuple[Path, Path]) -> None:
    exclude(pair[1], "mtp*")
    assert any("'mtp*' names multi-token prediction" in note for note in held(pair))


def test_a_vision_tower_has_no_cache(pair: tuple[Path, Path]) -> None:
    def tower(tensors: Tensors) -> None:
        for layer in range(3):
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                at = f"vision_tower.encoder.layers.{layer}.self_attn.{name}.weight"
                tensors[at] = bf16(32, 32, seed=layer)

    both(pair, tower)
    exclude(pair[1], "vision_tower*")
    held(pair)


def test_an_indexer_in_some_layers(pair: tuple[Path, Path]) -> None:
    def indexer(tensors: Tensors) -> None:
        for name in ("wk", "wq_b", "weights_proj"):
            tensors[f"{LAYER1}.self_attn.indexer.{name}.weight"] = bf16(16, 64)
        tensors[f"{LAYER1}.self_attn.indexer.k_norm.weight"] = bf16(16)

    both(pair, indexer)
    assert any("self_attn.indexer is in 1 of 2 layers" in note for note in held(pair))


@pytest.mark.parametrize("lacking", [("k_proj", "v_proj"), ("v_proj",)])
def test_layers_that_share_keys_and_values(pair: tuple[Path, Path], lacking: tuple[str, ...]) -> None:
    both(pair, without(*(f"{LAYER1}.self_attn.{name}" for name in lacking)))
    if "k_proj" not in lacking:
        altered(pair[1], without(f"{LAYER1}.self_attn.v_proj"))
    assert Verified(pair[1], pair[0], BOTH).status == 0
    alone = Verified(pair[1], None, ONLY)
    assert alone.status == 2, alone.screen  # shared or lost: nothing in the checkpoint tells
    assert "share another layer's keys and values" in alone.level("structure")["unchecked"]["listed"][0]
    for folder in pair:
        edit_json(folder / "config.json", lambda c: c.update(num_kv_shared_layers=1))
    assert any("share keys and values" in note for note in held(pair))


def test_layers_of_types_that_the_configuration_tells_apart(pair: tuple[Path, Path]) -> None:
    both(pair, without(f"{LAYER0}.self_attn.q_proj"))
    assert Verified(pair[1], None, ONLY).status == 1
    types = {"layer_types": ["linear_attention", "full_attention"]}
    for folder in pair:
        edit_json(folder / "config.json", lambda c: c.update(types))
    held(pair)


def test_a_gate_in_no_exclude_list_is_one_sentence_with_its_consequence(tmp_path: Path) -> None:
    """Eight layers, one finding, all of them counted."""
    import verify.making as making

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "LAYERS", 8)
        source = make_source(tmp_path / "source", "qwen3_moe", fp8=False)
        made = make_checkpoint(tmp_path / "made", source)
    for name, keys in (("config.json", ("quantization_config", "ignore")),
                       ("hf_quant_config.json", ("quantization", "exclude_modules"))):  # fmt: skip
        edit_json(
            made / name,
            lambda c, keys=keys: c[keys[0]].update(
                {keys[1]: [p for p in c[keys[0]][keys[1]] if not p.endswith("gate")]}
            ),
        )
    said = Verified(made, None, ONLY).level("structure")["differences"]
    assert (said["total"], len(said["listed"])) == (8, 1)
    assert "look for scales that are not there (and 7 similar ones, the last " in said["listed"][0]["message"]


def test_a_missing_shard_is_one_sentence(checkpoint: Path, source: Path) -> None:
    sorted(checkpoint.glob("*.safetensors"))[1].unlink()
    said = Verified(checkpoint, source, ONLY).level("structure")["differences"]
    assert said["total"] == 1


def test_a_configuration_with_far_too_many_layers_ends_at_once(checkpoint: Path) -> None:
    for key in ("num_hidden_layers", "num_local_experts"):
        edit_json(checkpoint / "config.json", lambda c, key=key: c.update({key: 10**11}))
    said = Verified(checkpoint, None, ONLY)
    assert said.status == 1 and len(said.differences("structure")) < 30


@pytest.mark.parametrize("gone", ["config.json", "hf_quant_config.json"])
def test_one_of_both_configurations_is_enough(pair: tuple[Path, Path], gone: str) -> None:
    if gone == "config.json":
        edit_json(pair[1] / gone, lambda c: c.pop("quantization_config"))
    else:
        (pair[1] / gone).unlink()
    held(pair)
