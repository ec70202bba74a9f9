"""Without a source: layers and experts by config.json's counts, and like their fellows."""

from typing import Any

from verify.naming import plain

from proofcard.checkpoint.tensors import Tensor
from proofcard.verify.inventory import Inventory
from proofcard.verify.regularity import check
from proofcard.verify.report import Level

CONFIG = {"num_hidden_layers": 3, "num_local_experts": 4}


def model(layers: int = 3, experts: int = 4) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for layer in range(layers):
        tensors |= plain(f"model.layers.{layer}.norm.weight", 8) | plain(
            f"model.layers.{layer}.q.weight", 8, 8
        )
        for expert in range(experts):
            tensors |= plain(f"model.layers.{layer}.mlp.experts.{expert}.w1.weight", 8, 8)
    return tensors


def judged(tensors: dict[str, Tensor], **config: Any) -> Level:
    level = Level("structure")
    check(Inventory(tensors), CONFIG | config, level)
    return level


def test_a_regular_model_holds() -> None:
    assert judged(model()).result == "holds"


def test_a_missing_layer_expert_and_tensor_are_named() -> None:
    assert [each.tensor for each in judged(model(layers=2)).findings] == ["model.layers.2"]
    whole = model()
    del whole["model.layers.1.mlp.experts.2.w1.weight"]
    assert judged(whole).findings[0].tensor == "model.layers.1.mlp.experts.2.w1.weight"
    alone = model()
    del alone["model.layers.1.norm.weight"]
    [finding] = judged(alone).findings
    assert (finding.kind, finding.tensor) == ("missing", "model.layers.1.norm")


def test_more_than_config_json_counts_is_too_much() -> None:
    assert judged(model(layers=4)).kinds == {"extra": 1}
    assert judged(model(experts=5)).kinds["extra"] == 3
    spare = judged(model(layers=4), num_nextn_predict_layers=1)
    assert spare.result == "holds" and spare.notes  # a predictor, of which only a source tells more
