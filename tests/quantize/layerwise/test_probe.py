"""What two tokens tell of a layer: which linears share an input, and which come last."""

from collections.abc import Callable
from pathlib import Path

import torch
from quantize.layerwise.conftest import layer

from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.probe import Probe, kv_shapes, probed
from proofcard.quantize.layerwise.stepper import Stepper


def test_gate_and_up_of_every_expert_share_an_input_and_down_comes_last(
    loading: Callable[[int], Stepper], tmp_path: Path
) -> None:
    hidden = Hidden(tmp_path, [(1, 2)], 64, torch.bfloat16, 0)
    with torch.no_grad():
        probe = probed(loading(0), layer(0), 0, hidden)
    block = layer(0).blocks[0]
    assert sorted(probe.groups()) == [(f"{expert}.w1", f"{expert}.w3") for expert in block.experts]
    assert probe.last(block) == {f"{expert}.w2" for expert in block.experts}
    assert probe.whole(block) == {f"{e}.{linear}" for e in block.experts for linear in ("w1", "w3")}


def test_a_layer_that_nothing_reached_tells_nothing() -> None:
    probe, block = Probe(layer(0)), layer(0).blocks[0]
    assert (probe.groups(), probe.last(block), probe.whole(block)) == ([], set(), set())


def test_affine_biases_are_a_number_for_each_head_and_channel(loading: Callable[[int], Stepper]) -> None:
    with torch.no_grad():
        shapes = kv_shapes(loading(0), layer(0), 0)
    assert shapes == {"k_bmm_quantizer": (1, 2, 1, 16), "v_bmm_quantizer": (1, 2, 1, 16)}
