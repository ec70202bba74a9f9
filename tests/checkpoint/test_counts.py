"""Numbers of layers and experts are held to the tensors: nothing runs as often as a file says."""

from pathlib import Path
from typing import Any

import pytest
from hostile_files import bounded

from proofcard.checkpoint.counts import check_counts
from proofcard.checkpoint.tensors import Tensor
from proofcard.errors import Stop


def tensors(count: int, *shape: int) -> list[Tensor]:
    return [Tensor(f"t.{n}", Path("x"), "U8", shape, 0, 1) for n in range(count)]


KEYS = (
    "num_hidden_layers", "n_layer", "num_layers", "num_local_experts", "num_experts", "n_routed_experts",
    "moe_num_experts", "num_nextn_predict_layers", "num_mtp_modules", "encoder_layers", "depth",
)  # fmt: skip


@pytest.mark.parametrize("at_hand", [True, False])
@pytest.mark.parametrize("inside", [None, "text_config", "vision_config"])
@pytest.mark.parametrize("key", KEYS)
def test_a_count_beyond_the_tensors_is_named(key: str, inside: str | None, at_hand: bool) -> None:
    for number in (10**11, 10**30, 1 << 63):
        config: dict[str, Any] = {inside: {key: number}} if inside else {key: number}
        with bounded(), pytest.raises(Stop, match=f"has {key}={number}, but its tensors allow"):
            check_counts(config, Path("model"), tensors(200, 8) if at_hand else None)


def test_layers_and_experts_together_are_bounded() -> None:
    config = {"num_hidden_layers": 1500, "num_experts": 1500}
    with pytest.raises(Stop, match="num_experts=1500, but its tensors allow at most 133"):
        check_counts(config, Path("model"), tensors(5000, 8))


@pytest.mark.parametrize(
    ("config", "there"),
    [
        (
            {"num_hidden_layers": 61, "n_routed_experts": 384, "num_nextn_predict_layers": 1},
            tensors(1000, 384),
        ),
        ({"num_hidden_layers": 62, "num_local_experts": 256}, None),
        ({"num_hidden_layers": 36, "num_local_experts": 128}, tensors(400, 128, 8)),
        ({"num_hidden_layers": 3, "max_window_layers": 28, "num_experts": 4}, tensors(30, 8)),
        ({"num_hidden_layers": 1, "num_experts": 0, "num_layers": None, "n_layer": -1}, tensors(5, 8)),
        ({"num_hidden_layers": "3", "layers": [1] * 9, "num_experts": 2.5, "depth": True}, tensors(5, 8)),
    ],
)
def test_what_models_have_passes(config: dict[str, Any], there: list[Tensor] | None) -> None:
    check_counts(config, Path("model"), there)
