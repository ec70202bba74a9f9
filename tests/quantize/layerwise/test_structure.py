"""What ModelOpt quantizes in a decoder, by names; what it writes is held to it by test_engines."""

from pathlib import Path

import pytest
import torch
from quantize.layerwise.conftest import SETTINGS, layer

from proofcard.checkpoint.source import Source
from proofcard.errors import Stop
from proofcard.quantize.layerwise.structure import Layer, dtype_name, layers_name
from proofcard.quantize.model import skeleton


def test_each_linear_of_an_expert_has_its_owner() -> None:
    one = layer(2)
    owners = one.owners()
    assert owners.keys() == set(one.linears)
    assert all(name.startswith(f"{expert}.") for name, expert in owners.items())
    assert one.experts() == list(one.blocks[0].experts)
    assert Layer("model.layers.0", ["model.layers.0.mlp.up_proj"]).owners() == {}


def test_the_list_of_layers_is_found_or_missed_in_a_sentence(mixtral: Path) -> None:
    model = skeleton(Source(mixtral), SETTINGS)
    assert layers_name(model) == "model.layers"

    class Other(torch.nn.Module):
        def get_decoder(self) -> torch.nn.Module:
            return torch.nn.Linear(2, 2)

    with pytest.raises(Stop, match="the decoder of Other has no module list"):
        layers_name(Other())


def test_dtypes_are_called_as_in_safetensors() -> None:
    assert [dtype_name(each) for each in (torch.bfloat16, torch.float8_e4m3fn, torch.uint8)] == [
        "BF16", "F8_E4M3", "U8",
    ]  # fmt: skip
