"""Roles of tensors by their names, and what a source says should be there."""

from verify.naming import linear, plain

from proofcard.checkpoint.ties import Ties
from proofcard.verify.inventory import (
    Inventory,
    against_source,
    fused_groups,
    kind,
    natural,
    of_config,
)

MLP = "model.layers.0.mlp"
TENSORS = (
    linear(f"{MLP}.gate_proj")
    | linear(f"{MLP}.up_proj")
    | plain(f"{MLP}.norm.weight", 32)
    | plain("model.embed_tokens.weight", 80, 32)
    | plain("lm_head.weight", 80, 32)
    | plain("model.layers.0.self_attn.k_proj.k_scale", dtype="F32")
)


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["layers.10.w", "layers.2.w", "layers.1.w"]
    assert sorted(names, key=natural) == ["layers.1.w", "layers.2.w", "layers.10.w"]
    assert kind("model.layers.3.experts.12.w1.weight") == "model.layers.#.experts.#.w1.weight"


def test_a_count_is_taken_from_the_text_model_too_and_never_from_a_boolean() -> None:
    assert of_config({"text_config": {"num_layers": 4}}, ("num_hidden_layers", "num_layers")) == 4
    assert of_config({"num_layers": True, "text_config": 7}, ("num_layers",)) is None


def test_every_tensor_has_one_role() -> None:
    inventory = Inventory(TENSORS)
    assert inventory.quantized == [f"{MLP}.gate_proj", f"{MLP}.up_proj"]
    assert inventory.cache == ["model.layers.0.self_attn.k_proj.k_scale"]
    assert f"{MLP}.gate_proj.weight" in inventory.model
    assert f"{MLP}.gate_proj.weight_scale" not in inventory.model
    assert inventory.linears() == ["lm_head"]  # the embedding is a table
    assert {MLP, "model.layers", f"{MLP}.norm"} <= inventory.modules()


def test_gate_and_up_share_a_scale_and_experts_do_not() -> None:
    experts = [f"m.experts.{n}.{w}" for n in (0, 1) for w in ("w1", "w2", "w3")]
    assert fused_groups(experts) == [
        ("m.experts.0.w1", "m.experts.0.w3"),
        ("m.experts.0.w2",),
        ("m.experts.1.w1", "m.experts.1.w3"),
        ("m.experts.1.w2",),
    ]


def test_what_the_source_has_must_be_there_and_nothing_else() -> None:
    inventory = Inventory(TENSORS)
    source = [*inventory.model - {f"{MLP}.up_proj.weight"}, "model.norm.weight"]
    found = {(each.kind, each.tensor) for each in against_source(inventory, source, Ties(tied=False))}
    scales = {
        ("extra", f"{MLP}.up_proj.{leaf}") for leaf in ("weight_scale", "weight_scale_2", "input_scale")
    }
    assert found == {("missing", "model.norm.weight"), ("extra", f"{MLP}.up_proj.weight")} | scales


def test_a_tied_head_may_be_left_out() -> None:
    inventory = Inventory({name: each for name, each in TENSORS.items() if name != "lm_head.weight"})
    source = inventory.model | {"lm_head.weight"}
    assert list(against_source(inventory, source, Ties(tied=True))) == []
    assert len(list(against_source(inventory, source, Ties(tied=False)))) == 1
