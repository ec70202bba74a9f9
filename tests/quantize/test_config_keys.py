"""config.json is read whole: newer spellings mean the same, and no key that could matter is passed over."""

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from running import tiny_config

from proofcard.errors import Stop
from proofcard.quantize import config_keys, dry_run, model_config

Change = Callable[[dict[str, Any]], Any]
THETA = 5_000_000.0
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip


def config_of(architecture: str, **own: Any) -> dict[str, Any]:
    """A config.json as transformers 4 writes it."""
    if architecture == "gemma3_text":
        import transformers

        made: Any = transformers.Gemma3TextConfig(
            vocab_size=300, hidden_size=64, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=96, head_dim=16,
        )  # fmt: skip
    else:
        made = tiny_config(architecture)
    return json.loads(made.to_json_string(use_diff=True)) | own


def understood(config: dict[str, Any], *ignored: str) -> tuple[Any, Any]:
    """The configuration object and its model, on the meta device."""
    import torch
    import transformers

    made, given = model_config.read(config, Path(), own_code=False, where="config.json")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    config_keys.check(given, model, ignored, "config.json")
    return made, model


def refusal(config: dict[str, Any], *ignored: str) -> str:
    with pytest.raises(Stop) as stop:
        understood(config, *ignored)
    return str(stop.value)


def frequencies(architecture: str, config: dict[str, Any]) -> list[list[float]]:
    """What rotates positions in the model that would calibrate, one list for each rotary embedding."""
    import transformers

    made, given = model_config.read(config, Path(), own_code=False, where="config.json")
    model = transformers.AutoModelForCausalLM.from_config(made)
    config_keys.check(given, model, (), "config.json")
    return [
        [*module.inv_freq.tolist(), module.attention_scaling]
        for module in model.modules()
        if hasattr(module, "inv_freq")
    ]


@pytest.mark.parametrize(
    "architecture", ["mixtral", "qwen3_moe", "deepseek_v2", "qwen3_next", "olmoe", "llama"]
)
def test_what_transformers_4_writes_is_understood(architecture: str) -> None:
    understood(config_of(architecture))


FIVE: dict[str, tuple[str, dict[str, Any], Change]] = {
    "theta": ("llama", {"rope_theta": THETA}, lambda c: c.pop("rope_theta")),
    "theta of experts": ("qwen3_moe", {"rope_theta": THETA}, lambda c: c.pop("rope_theta")),
    "theta of Mixtral": ("mixtral", {"rope_theta": THETA}, lambda c: c.pop("rope_theta")),
    "llama3": ("llama", {"rope_theta": THETA, "rope_scaling": LLAMA3}, lambda c: c.pop("rope_theta")),
    "yarn": ("qwen3_moe", {"rope_theta": THETA, "rope_scaling": YARN}, lambda c: c.pop("rope_theta")),
    "both, equal": ("llama", {"rope_theta": THETA}, lambda c: None),
    "a part of the channels": (
        "qwen3_next",
        {"rope_theta": THETA, "partial_rotary_factor": 0.5},
        lambda c: c.pop("partial_rotary_factor"),
    ),
}


@pytest.mark.parametrize("case", FIVE)
def test_rope_parameters_turn_positions_as_the_older_spelling_does(case: str) -> None:
    architecture, own, drop = FIVE[case]
    four = config_of(architecture, **own)
    five = dict(four)
    inside = {"rope_type": "default"} | (own.get("rope_scaling") or {})
    inside |= {key: own[key] for key in ("rope_theta", "partial_rotary_factor") if key in own}
    five.pop("rope_scaling", None)
    drop(five)
    five["rope_parameters"] = inside
    assert frequencies(architecture, five) == frequencies(architecture, four)
    plain = config_of(architecture)
    assert frequencies(architecture, four) != frequencies(architecture, plain)


def test_rope_theta_inside_rope_scaling_counts() -> None:
    four = config_of("llama", rope_theta=THETA, rope_scaling=LLAMA3)
    moved = {key: value for key, value in four.items() if key != "rope_theta"}
    moved["rope_scaling"] = LLAMA3 | {"rope_theta": THETA}
    assert frequencies("llama", moved) == frequencies("llama", four)


def test_each_type_of_layer_has_rope_parameters_of_its_own() -> None:
    four = config_of("gemma3_text", rope_theta=THETA, rope_local_base_freq=20_000.0)
    nested = {
        "full_attention": {"rope_type": "default", "rope_theta": THETA},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20_000.0},
    }
    five = {key: value for key, value in four.items() if key not in ("rope_theta", "rope_local_base_freq")}
    assert frequencies("gemma3_text", five | {"rope_parameters": nested}) == frequencies("gemma3_text", four)
    # where all types of layers turn alike, any class can express it
    alike = dict.fromkeys(nested, nested["full_attention"])
    llama = config_of("llama", rope_parameters=alike)
    del llama["rope_theta"]
    assert frequencies("llama", llama) == frequencies("llama", config_of("llama", rope_theta=THETA))
    assert "differ between layers" in refusal(config_of("llama", rope_parameters=nested))


def test_other_names_of_the_number_of_experts() -> None:
    config = config_of("qwen3_moe")
    del config["num_experts"]
    config["num_local_experts"] = 6
    assert understood(config)[0].num_experts == 6
    assert "num_local_experts=6, num_experts=4" in refusal(config | {"num_experts": 4})
    mixtral = {k: v for k, v in config_of("mixtral").items() if k != "num_local_experts"} | {"num_experts": 6}
    assert understood(mixtral)[0].num_local_experts == 6


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    # two spellings that contradict each other
    "two bases": (
        "llama",
        {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}},
        "has rope_theta=10000.0, but 1000000.0",
    ),
    "scales and does not": (
        "llama",
        {"rope_scaling": LLAMA3, "rope_parameters": {"rope_type": "default"}},
        "rope_scaling is set",
    ),
    "two types": (
        "llama",
        {"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2.0}},
        "'dynamic' and 'linear'",
    ),
    # rope that the pinned formulas do not have
    "unknown type": ("llama", {"rope_scaling": {"rope_type": "ntk-by-parts", "factor": 2.0}}, "ntk-by-parts"),
    "unknown type, newer": (
        "qwen3_moe",
        {"rope_parameters": {"rope_type": "mrope", "rope_theta": 1e4}},
        "mrope",
    ),
    "a factor that is not read": (
        "llama",
        {"rope_scaling": {"rope_type": "default", "factor": 4.0}},
        "factor=4.0",
    ),
    "sections": (
        "llama",
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0, "mrope_section": [1, 2]}},
        "mrope_section",
    ),
    "no type": ("llama", {"rope_parameters": {"rope_theta": 1e4, "factor": 4.0}}, "factor"),
    "a word": ("llama", {"rope_scaling": "linear"}, "rope_scaling='linear'"),
    "a list": ("llama", {"rope_parameters": [1]}, "rope_parameters=[1]"),
    "a part of the channels": (
        "llama",
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "partial_rotary_factor=0.5",
    ),
    # keys that the class does not read
    "sliding window": ("llama", {"sliding_window": 128}, "sliding_window=128"),
    "types of layers": ("mixtral", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
    "biases": ("mixtral", {"attention_bias": True}, "attention_bias=True"),
    "norms of queries": ("llama", {"use_qk_norm": True}, "use_qk_norm=True"),
    "soft cap": ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
    "multiplier": ("llama", {"residual_multiplier": 0.2}, "residual_multiplier=0.2"),
    "chunks": ("llama", {"attention_chunk_size": 64}, "attention_chunk_size=64"),
    "head width of two": ("deepseek_v2", {"head_dim": 32}, "head_dim=32"),
    "router": ("deepseek_v2", {"scoring_func": "sigmoid"}, "scoring_func='sigmoid'"),
    "weights of experts": ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob=True"),
    "weights of Mixtral's": ("mixtral", {"norm_topk_prob": False}, "norm_topk_prob=False"),
    "shared experts": ("mixtral", {"n_shared_experts": 1}, "n_shared_experts=1"),
    "every second layer": ("deepseek_v2", {"moe_layer_freq": 2}, "moe_layer_freq=2"),
    "experts in a dense model": ("llama", {"num_experts": 8}, "num_experts=8"),
    "pruned": ("llama", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
    "of tomorrow": ("llama", {"attention_gate": "sigmoid"}, "attention_gate='sigmoid'"),
    "another architecture": (
        "llama",
        {"architectures": ["Qwen3ForCausalLM"]},
        "architectures=['Qwen3ForCausalLM']",
    ),
    "encoder": ("llama", {"is_encoder_decoder": True}, "only decoder-only models"),
    # values of the wrong type
    "layers in quotes": (
        "llama",
        {"num_hidden_layers": "3"},
        "num_hidden_layers='3': it must be a whole number",
    ),
    "base in quotes": ("llama", {"rope_theta": "10000"}, "rope_theta='10000': it must be a number"),
    "epsilon in quotes": ("mixtral", {"rms_norm_eps": "1e-6"}, "rms_norm_eps='1e-6': it must be a number"),
    "heads in quotes": ("llama", {"num_key_value_heads": "2"}, "num_key_value_heads='2'"),
    "half a layer": ("llama", {"num_hidden_layers": 2.5}, "num_hidden_layers=2.5"),
    "no base": ("llama", {"rope_theta": 0}, "rope_theta=0: it must be a positive number"),
    "newer base in quotes": (
        "llama",
        {"rope_parameters": {"rope_theta": "1e6"}, "rope_theta": None},
        "'1e6'",
    ),
    "true experts": ("mixtral", {"num_experts_per_tok": True}, "num_experts_per_tok=True"),
    "false in quotes": (
        "qwen3_moe",
        {"norm_topk_prob": "false"},
        "norm_topk_prob='false': it must be true or false",
    ),
    # what is no such model
    "no name": ("llama", {"model_type": None}, "no model_type"),
    "unknown model": ("llama", {"model_type": "llama9"}, "does not know model_type 'llama9'"),
    "not a language model": ("llama", {"model_type": "vit"}, "'vit' is not a causal language model"),
    "images too": (
        "llama",
        {"text_config": {}, "vision_config": {}},
        "multi-part model (text_config, vision_config)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_another_model_is_refused_by_name(case: str) -> None:
    architecture, own, sentence = REFUSED[case]
    said = refusal(config_of(architecture) | own)
    assert sentence in said
    assert "config.json" in said


HARMLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "ids": ("llama", {"eos_token_id": [0, 5], "image_token_id": 7, "pad_token_id": None}),
    "training": (
        "mixtral",
        {"attention_dropout": 0.1, "initializer_range": 0.1, "router_aux_loss_coef": 0.5},
    ),
    "names": ("llama", {"_name_or_path": "x", "transformers_version": "9", "unsloth_fixed": True}),
    "generation": ("llama", {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "max_length": 9}),
    "unset": ("llama", {"sliding_window": None, "rope_scaling": None, "quantization_config": None}),
    "off": ("llama", {"use_sliding_window": False, "sliding_window": 32, "max_window_layers": 2}),
    "all full": ("mixtral", {"layer_types": ["full_attention"] * 3}),
    "same width of heads": ("olmoe", {"head_dim": 16}),
    "what it does anyway": ("mixtral", {"norm_topk_prob": True, "attention_bias": False}),
    "heads for further tokens": ("llama", {"num_nextn_predict_layers": 1}),
    "newer dtype": ("llama", {"dtype": "bfloat16"}),
    "integer base": ("llama", {"rope_theta": 10000}),
    "empty scaling": ("llama", {"rope_scaling": {}}),
    "default type": ("llama", {"rope_scaling": {"rope_type": "default"}}),
    "both names of the type": (
        "llama",
        {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0}},
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_changes_no_arithmetic_is_let_through(case: str) -> None:
    architecture, own = HARMLESS[case]
    understood(config_of(architecture) | own)


TOGETHER: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "heads": ("llama", {"num_key_value_heads": 3}, "do not match each other: The size of tensor a (4)"),
    "more chosen than there are": ("qwen3_moe", {"num_experts_per_tok": 9}, "k not in range"),
    "a method of another class": ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_weight"),
    "dense": ("llama", {}, None),
    "scaled": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, None),
    "latent attention": ("deepseek_v2", {}, None),
    "linear attention": ("qwen3_next", {}, None),
    "windows": ("gemma3_text", {}, None),
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", TOGETHER)
def test_values_that_do_not_go_together_are_found_without_a_weight(case: str, attention: str) -> None:
    import torch
    import transformers

    architecture, own, sentence = TOGETHER[case]
    made, _ = model_config.read(config_of(architecture) | own, Path(), own_code=False, where="config.json")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation=attention)
    before = dict(model.named_parameters())
    with nullcontext() if sentence is None else pytest.raises(Stop, match=re.escape(sentence)):
        dry_run.check(model.eval(), "config.json")
    assert all(value is before[name] for name, value in model.named_parameters())


def test_a_person_may_call_a_key_harmless() -> None:
    config = config_of("llama", attention_gate="none", some_note=3)
    assert "model.ignored_keys=[attention_gate,some_note]" in refusal(config)
    assert "model.ignored_keys=[some_note]" in refusal(config, "attention_gate")
    understood(config, "attention_gate", "some_note")
    scaled = config_of("llama", rope_scaling={"rope_type": "linear", "factor": 2.0, "note": 1})
    assert "model.ignored_keys=[rope_scaling.note]" in refusal(scaled)
    understood(scaled, "rope_scaling.note")
