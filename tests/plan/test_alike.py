"""Layers are of one kind only where ModelOpt cannot tell one from another."""

from pathlib import Path
from typing import Any

import pytest
import torch

from proofcard.plan import alike
from proofcard.plan.outline import Outline


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*mlp.experts*",
        "*[kv]_bmm_quantizer",
        "output.*",
        "*linear_attn.conv1d*",
        "*w2*",
        "*.2d_*",
        "nn.BatchNorm1d",
    ],
)
def test_a_pattern_without_numbers_tells_no_layers_apart(pattern: str) -> None:
    assert not alike.tells_numbers_apart(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "*layers.0.*",
        "*.1*",
        "*1",
        "2*",
        "*layers.?.*",
        "*[0-3]*",
        "*[!a]*",
        "*[kv1]*",
        "*[a-z]*",
        "*a*1.*",
        "*[kv]1*",
    ],
)
def test_one_with_a_number_may(pattern: str) -> None:
    assert alike.tells_numbers_apart(pattern)


def outlined(folder: Path, layers: torch.nn.ModuleList) -> Outline:
    outline = Outline(folder, {})
    for name, value in layers.state_dict().items():
        outline.add(f"m.layers.{name}", "BF16", tuple(value.shape))
    return outline


def five() -> torch.nn.ModuleList:
    return torch.nn.ModuleList(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)) for _ in range(5)
    )


CHANGES: dict[str, Any] = {
    "a shape": lambda layer: layer.__setattr__("0", torch.nn.Linear(4, 8)),
    "a dtype": lambda layer: layer.__getattr__("0").half(),
    "a type": lambda layer: layer.__setattr__("1", torch.nn.RMSNorm(4)),
    "a name": lambda layer: layer.add_module("more", torch.nn.Identity()),
    "a bias": lambda layer: layer.__setattr__("0", torch.nn.Linear(4, 4, bias=False)),
    "a buffer": lambda layer: layer.register_buffer("table", torch.zeros(2)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_module_shape_or_dtype_is_another_kind(tmp_path: Path, what: str) -> None:
    layers = five()
    CHANGES[what](layers[2])
    assert alike.first_alike(layers, "m.layers", outlined(tmp_path, layers), {"*": {}}) == [0, 0, 2, 0, 0]


def test_so_is_another_dtype_in_the_files(tmp_path: Path) -> None:
    layers = five()
    outline = outlined(tmp_path, layers)
    outline.add("m.layers.4.0.weight", "F32", (4, 4))
    assert alike.first_alike(layers, "m.layers", outline, {}) == [0, 0, 0, 0, 4]


@pytest.mark.parametrize("quant_cfg", [{"*layers.0.*": {}}, {"nn.Linear": {"*.1.*": {}}}])
def test_a_pattern_that_names_a_layer_leaves_none_alike(tmp_path: Path, quant_cfg: dict[str, Any]) -> None:
    layers = five()
    assert alike.first_alike(layers, "m.layers", outlined(tmp_path, layers), quant_cfg) == [0, 1, 2, 3, 4]
