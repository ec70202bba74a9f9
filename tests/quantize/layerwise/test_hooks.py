"""Looking at what passes through a layer changes nothing and is over afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from quantize.layerwise.conftest import batch, layer

from proofcard.errors import Stop
from proofcard.quantize.layerwise.hooks import intercepted, watching
from proofcard.quantize.layerwise.stepper import Stepper


def test_inputs_are_seen_while_one_looks_and_no_longer(loading: Callable[[int], Stepper]) -> None:
    stepper, seen = loading(0), []
    names = [layer(0).blocks[0].name]
    with torch.no_grad():
        alone = stepper.run(None, batch(), attention_mask=False)
        with watching(stepper.modules, names, lambda name, values: seen.append((name, values.shape))):
            looked_at = stepper.run(None, batch(), attention_mask=False)
        stepper.run(None, batch(), attention_mask=False)
    assert seen == [(names[0], (2, 5, 64))]
    assert torch.equal(alone, looked_at)


def test_keys_and_values_are_seen_on_their_way(loading: Callable[[int], Stepper]) -> None:
    stepper = loading(0)
    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    attention = stepper.modules["model.layers.0.self_attn"]
    with torch.no_grad():
        alone = stepper.run(None, batch(), attention_mask=False)
        with intercepted(attention, keys.append, values.append):
            assert torch.equal(stepper.run(None, batch(), attention_mask=False), alone)
        stepper.run(None, batch(), attention_mask=False)
    assert [key.shape for key in keys] == [value.shape for value in values] == [(2, 2, 5, 16)]


def test_an_attention_that_hides_them_is_named() -> None:
    class Hidden(torch.nn.Module):
        class config:
            _attn_implementation = "eager"

    def look(_: Any) -> None:
        raise AssertionError

    with pytest.raises(Stop, match="Hidden"), intercepted(Hidden(), look, look):
        pass
