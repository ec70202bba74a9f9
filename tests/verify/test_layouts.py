"""Layouts that no rule explains are named and never verified; other spellings of the known one are read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import ROOT
from verify.making import Tensors, Verified, edit_json, load, make_checkpoint, make_source, save, write_json

LEVELS = ("structure", "weights")
MLP = "model.layers.0.mlp.experts"
CHECKPOINTS = ROOT.parent / "shared" / "checkpoints"


def altered(folder: Path, change: Callable[[Tensors], Any]) -> Path:
    tensors = load(folder)
    change(tensors)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    save(folder, tensors)
    return folder


def codes(*shape: int) -> tuple[str, np.ndarray]:
    return "U8", np.ones(shape, np.uint8)


def nothing_quantized(tensors: Tensors) -> None:
    for name in [name for name, (dtype, _) in tensors.items() if dtype in ("U8", "F8_E4M3")]:
        del tensors[name]
    for name in [name for name in tensors if name.endswith(("weight_scale_2", "input_scale"))]:
        del tensors[name]


NAN = ("F32", np.full((3,), np.nan, np.float32))
UNKNOWN: dict[str, Callable[[Tensors], Any]] = {
    "gpt-oss": lambda t: t.update({
        f"{MLP}.gate_up_proj_blocks": codes(3, 96, 4, 16), f"{MLP}.gate_up_proj_scales": codes(3, 96, 4),
        f"{MLP}.gate_up_proj_bias": ("BF16", np.zeros((3, 96), np.uint16)),
    }),
    "llama4": lambda t: t.update({
        f"{MLP}.gate_up_proj": codes(3, 32, 96), f"{MLP}.gate_up_proj_weight_scale": NAN,
        f"{MLP}.gate_up_proj_weight_scale_2": NAN, f"{MLP}.gate_up_proj_input_scale": NAN,
    }),
    "transformers 5": lambda t: t.update({f"{MLP}.down_proj.weight": codes(3, 64, 24),
                                          f"{MLP}.down_proj.weight_scale": NAN}),
    "float scales alone": lambda t: t.update({f"{MLP}.gate_up_proj_weight_scale": NAN}),
    "compressed-tensors": lambda t: t.update({"model.layers.0.x.weight_packed": codes(64, 32)}),
    "a global scale": lambda t: t.update({"model.layers.0.x.weight_global_scale": NAN}),
    "GPTQ": lambda t: t.update({"model.layers.0.x.qweight": ("I32", np.ones((8, 8), np.int32))}),
    "AWQ of ModelOpt": lambda t: t.update({"lm_head.pre_quant_scale": ("BF16", np.ones(64, np.uint16))}),
    "g_idx": lambda t: t.update({"model.layers.0.x.g_idx": ("I32", np.ones(8, np.int32))}),
    "a zero point": lambda t: t.update({"model.layers.0.x.weight_zero_point": ("I8", np.ones(8, np.int8))}),
    "FP8 per tensor": lambda t: t.update({"model.layers.0.x.weight": ("F8_E4M3", np.ones((8, 8), np.uint8)),
                                          "model.layers.0.x.weight_scale": ("F32", np.float32(1))}),
    "FP8 by blocks": lambda t: t.update({"model.layers.0.x.weight": ("F8_E4M3", np.ones((8, 8), np.uint8)),
                                         "model.layers.0.x.weight_scale_inv": NAN}),
    "codes by another name": lambda t: t.update({"model.layers.0.x.codes": codes(4, 4)}),
    "an INT8 weight": lambda t: t.update({"model.layers.0.x.weight": ("I8", np.ones((8, 8), np.int8))}),
    "bitsandbytes": lambda t: t.update({"model.layers.0.x.absmax": ("F32", np.ones(8, np.float32))}),
    "SVDQuant": lambda t: t.update({"model.layers.0.x.svdquant_lora_a": ("BF16", np.ones((8, 8), "u2"))}),
    "not one quantized linear": nothing_quantized,
}  # fmt: skip
NAMES = {"F32": "float32", "I32": "int32", "I8": "int8"}


@pytest.fixture(autouse=True)
def more_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    from verify import making

    monkeypatch.setattr(making, "NAMES", making.NAMES | NAMES)


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("with_source", [True, False])
def test_what_no_rule_explains_is_not_verified(
    checkpoint: Path, source: Path, kind: str, with_source: bool
) -> None:
    altered(checkpoint, UNKNOWN[kind])
    found = Verified(checkpoint, source if with_source else None, LEVELS if with_source else LEVELS[:1])
    assert found.status == 2, found.screen
    for level in LEVELS if with_source else LEVELS[:1]:
        assert found.level(level)["result"] == "not checked"
        assert found.level(level)["differences"]["total"] == 0  # what is not known is no damage
        said = found.level(level)["unchecked"]["listed"]
        assert all("not supported" in line or "no linear is quantized" in line for line in said), said


@pytest.mark.parametrize("level", LEVELS)
def test_without_any_configuration_the_tensors_must_speak(checkpoint: Path, source: Path, level: str) -> None:
    """Every weight as in the source and nothing quantized: that is no NVFP4 checkpoint."""
    altered(checkpoint, nothing_quantized)
    (checkpoint / "hf_quant_config.json").unlink()
    edit_json(checkpoint / "config.json", lambda c: c.pop("quantization_config"))
    assert Verified(checkpoint, source, (level,)).status == 2


@pytest.mark.parametrize("content", ["no file", "no tensor"])
def test_nothing_in_it(tmp_path: Path, source: Path, content: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    if content == "no tensor":
        save(folder, {})
        shutil.copy(source / "config.json", folder)
    damaged = content == "no tensor"  # its index names no file
    assert Verified(folder, source, LEVELS).status == (1 if damaged else 2)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_source_with_all_experts_in_one_tensor(tmp_path: Path, transposed: bool) -> None:
    """Its experts are cut out of it; stored the other way round, which nothing says, it is not understood."""
    source = make_source(tmp_path / "source", fp8=False)
    checkpoint = make_checkpoint(tmp_path / "checkpoint", source)
    tensors = load(source)
    for layer in range(2):
        stem = f"model.layers.{layer}.block_sparse_moe.experts."
        own = {name: tensors.pop(name)[1] for name in list(tensors) if name.startswith(stem)}
        both = [np.concatenate([own[f"{stem}{e}.w1.weight"], own[f"{stem}{e}.w3.weight"]]) for e in range(3)]
        down = [own[f"{stem}{e}.w2.weight"] for e in range(3)]
        for name, parts in (("gate_up_proj", both), ("down_proj", down)):
            stacked = np.stack([part.T if transposed else part for part in parts])
            tensors[f"{stem}{name}"] = ("BF16", np.ascontiguousarray(stacked))
    fused = tmp_path / "fused"
    fused.mkdir()
    save(fused, tensors)
    shutil.copy(source / "config.json", fused)
    found = Verified(checkpoint, fused, LEVELS)
    assert found.status == (2 if transposed else 0), found.screen
    if transposed:
        said = found.level("weights")["unchecked"]["listed"][0]
        assert "keeps the experts of a layer in one tensor" in said
    else:
        assert any("cut out" in note for note in found.level("weights")["notes"])


# --- other spellings of what is known --------------------------------------------------------------


def respelled(folder: Path, both: bool, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    content = json.loads((folder / "config.json").read_text())
    content["quantization_config"] = change(content["quantization_config"])
    write_json(folder / "config.json", content)
    if not both:
        (folder / "hf_quant_config.json").unlink()
    return folder


def flat(quantization: dict[str, Any]) -> dict[str, Any]:
    return {
        "quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16,
        "exclude_modules": quantization["ignore"],
    }  # fmt: skip


def nested(quantization: dict[str, Any]) -> dict[str, Any]:
    inner = {key: value for key, value in flat(quantization).items() if key != "quant_method"}
    return {"quant_method": "modelopt", "producer": quantization["producer"], "quantization": inner}


SPELLINGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "flat": flat,
    "nested": nested,
    "lower case": lambda q: q | {"quant_algo": "nvfp4"},
    "another case of the method": lambda q: q | {"quant_method": "ModelOpt"},
    "modelopt_fp4": lambda q: q | {"quant_method": "modelopt_fp4"},
    "modelopt_fp4 without its algorithm": lambda q: (
        {k: v for k, v in flat(q).items() if k != "quant_algo"} | {"quant_method": "modelopt_fp4"}
    ),
    "excluded in another order": lambda q: q | {"ignore": q["ignore"][::-1]},
    "keys that say nothing": lambda q: q | {"sparsity_config": {}, "has_zero_point": False},
}


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("kind", SPELLINGS)
def test_another_spelling_is_understood(checkpoint: Path, source: Path, kind: str, both: bool) -> None:
    respelled(checkpoint, both, SPELLINGS[kind])
    found = Verified(checkpoint, source, LEVELS)
    assert found.status == 0, found.screen
    assert found.level("structure")["counts"]["quantized linears"] == 18


def part(**change: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def edit(quantization: dict[str, Any]) -> dict[str, Any]:
        group = quantization["config_groups"]["group_0"]
        return quantization | {"config_groups": {"group_0": group | {"weights": group["weights"] | change}}}

    return edit


def group(**change: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def edit(quantization: dict[str, Any]) -> dict[str, Any]:
        return quantization | {
            "config_groups": {"group_0": quantization["config_groups"]["group_0"] | change}
        }

    return edit


@pytest.mark.parametrize("value", ["x", None, [], 4])
@pytest.mark.parametrize("name", ["config.json", "hf_quant_config.json"])
def test_a_quantization_that_is_no_object(checkpoint: Path, name: str, value: Any) -> None:
    key = "quantization_config" if name == "config.json" else "quantization"
    edit_json(checkpoint / name, lambda c: c.update({key: value}))
    assert Verified(checkpoint, None, ("structure",)).status == 1


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], int]] = {
    "num_bits": (part(num_bits=8), 1),
    "dynamic": (part(dynamic=True), 1),
    "type": (part(type="int"), 1),
    "group_size": (part(group_size=32), 1),
    "targets": (group(targets=["Embedding"]), 1),
    "no input activations": (group(input_activations=None), 1),
    "output activations": (group(output_activations={"num_bits": 4}), 2),
    "an unknown key of a part": (part(rotation="hadamard"), 2),
    "a second group": (
        lambda q: q | {"config_groups": q["config_groups"] | {"group_1": {"targets": ["x"]}}},
        1,
    ),
    "no group": (lambda q: q | {"config_groups": {}}, 1),
    "an unknown key": (lambda q: q | {"transform_config": {"x": 1}}, 2),
    "quantized layers": (lambda q: q | {"quantized_layers": {"a": "FP8"}}, 2),
    "a zero point": (lambda q: q | {"has_zero_point": True}, 2),
    "another method": (lambda q: q | {"quant_method": "gptq"}, 2),
    "another cache": (lambda q: q | {"kv_cache_scheme": {"num_bits": 4, "type": "float"}}, 1),
    "nobody excluded": (lambda q: q | {"ignore": []}, 1),
    "all excluded": (lambda q: q | {"ignore": ["*"]}, 1),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_the_configuration_says_of_the_quantization(checkpoint: Path, source: Path, name: str) -> None:
    change, status = CONTRADICTIONS[name]
    respelled(checkpoint, True, change)
    assert Verified(checkpoint, source, ("structure",)).status == status
    (checkpoint / "hf_quant_config.json").unlink()
    assert Verified(checkpoint, source, ("structure",)).status in (1, 2)


# --- checkpoints of other makers ---------------------------------------------------------------------

PROVEN = (
    "llm_compressor-tuned", "nvfp4-kv", "nvfp4a16", "qwen3moe-nvfp4", "four_over_six", "mlp_weight_only",
    "w4a16_nvfp4", "experts_only",
)  # fmt: skip
SEARCHED = ("auto_round-rtn", "fp8_sweep")


@pytest.mark.parametrize("with_source", [True, False])
@pytest.mark.parametrize("number", range(11))
def test_checkpoints_of_other_makers(tmp_path: Path, number: int, with_source: bool) -> None:
    """Each is proven, or cannot be and says why; none is damaged."""
    if not CHECKPOINTS.is_dir():
        pytest.skip(f"NOT TESTED: the checkpoints of other makers are not at {CHECKPOINTS}")
    folders = sorted(path for path in CHECKPOINTS.iterdir() if path.name != "source")
    copied = tmp_path / folders[number].name
    shutil.copytree(folders[number], copied, copy_function=shutil.copyfile)
    kind = "qwen3moe" if "qwen3moe" in copied.name else "llama"
    source = CHECKPOINTS / "source" / kind if with_source else None
    found = Verified(copied, source, LEVELS if with_source else LEVELS[:1])
    known = PROVEN if with_source else PROVEN + SEARCHED
    assert found.status == (0 if copied.name.endswith(known) else 2), found.screen
    assert all(level["differences"]["total"] == 0 for level in found.report["levels"].values())
    if found.status == 2:
        words = "searched scales" if copied.name.endswith(SEARCHED) else "do not follow from the source alone"
        assert words in found.level(LEVELS[with_source])["unchecked"]["listed"][0]
    if with_source and copied.name.endswith(SEARCHED):
        given = Verified(copied, source, LEVELS, scales="given")
        assert given.status == 0
        assert "\nverified, scales as given" in given.screen
        assert all(said["differ"] <= said["blocks"] for said in given.level("weights")["scales"])


def test_a_wrong_source_is_still_another_source(tmp_path: Path, checkpoint: Path) -> None:
    other = make_source(tmp_path / "other", fp8=False, seed=5)
    found = Verified(checkpoint, other, ("weights",))
    assert found.status == 1
    made = make_checkpoint(tmp_path / "made", other)
    assert Verified(made, other).status == 0
