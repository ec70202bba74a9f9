"""config.json's sizes held to the tensors, without a source."""

from typing import Any

import pytest
from verify.naming import linear, plain

from proofcard.verify.dimensions import check

LAYER = "model.layers.0"
CONFIG = {
    "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "num_local_experts": 4,
}  # fmt: skip
TENSORS = (
    plain("model.embed_tokens.weight", 300, 64)
    | plain(f"{LAYER}.self_attn.q_proj.weight", 64, 64)
    | plain(f"{LAYER}.self_attn.k_proj.weight", 32, 64)
    | plain(f"{LAYER}.mlp.gate.weight", 4, 64)
    | linear(f"{LAYER}.mlp.experts.0.w2", rows=64, columns=96)
)


def test_sizes_that_fit_are_no_finding() -> None:
    assert list(check(CONFIG, TENSORS)) == []
    assert list(check({"text_config": CONFIG}, TENSORS)) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 128}, "hidden_size is 128; the tensors say 64"),
        ({"num_attention_heads": 8}, "num_attention_heads · head_dim is 128; the tensors say 64"),
        ({"num_key_value_heads": 4}, "num_key_value_heads · head_dim is 64; the tensors say 32"),
        ({"intermediate_size": 100}, "intermediate_size is 100; the tensors say 96"),
        ({"num_local_experts": 8}, "num_local_experts is 8; the tensors say 4"),
        ({"vocab_size": "many"}, 'vocab_size is "many", which is no number'),
    ],
)
def test_a_size_that_no_tensor_has_is_named(changed: dict[str, Any], message: str) -> None:
    assert [each.message for each in check(CONFIG | changed, TENSORS)] == [message]


def test_queries_with_a_gate_are_twice_as_many() -> None:
    gated = TENSORS | plain(f"{LAYER}.self_attn.q_proj.weight", 128, 64)
    assert list(check(CONFIG, gated)) == []
