"""The forced pass: chosen experts see every row, and the block is as it was afterwards."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from quantize.layerwise.conftest import layer

from proofcard.quantize.layerwise.experts import Forced
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.hooks import watching
from proofcard.quantize.layerwise.probe import probed
from proofcard.quantize.layerwise.stepper import Stepper

Forcing = tuple[Stepper, Forced]


@pytest.fixture
def forcing(standing: Callable[[int], Stepper], tmp_path: Path) -> Forcing:
    stepper, hidden = standing(0), Hidden(tmp_path, [(1, 2)], 64, torch.bfloat16, 0)
    with torch.no_grad():
        probe = probed(stepper, layer(0), 0, hidden)
    return stepper, Forced(layer(0).blocks[0], stepper.modules, probe)


def states() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(2, 7, 64).to(torch.bfloat16)


def test_every_expert_sees_every_row_in_order_on_the_first_and_on_later_batches(forcing: Forcing) -> None:
    stepper, forced = forcing
    experts, rows = forced.block.experts, states().reshape(-1, 64)
    for _ in range(2):  # through the block, then one by one
        seen: dict[str, torch.Tensor] = {}
        with torch.no_grad(), watching(stepper.modules, [f"{e}.w1" for e in experts], seen.__setitem__):
            forced.run(states(), experts)
        assert seen.keys() == {f"{expert}.w1" for expert in experts}
        assert all(torch.equal(values, rows) for values in seen.values())


def test_only_those_that_are_chosen_are_called(forcing: Forcing) -> None:
    stepper, forced = forcing
    experts = forced.block.experts
    seen: list[str] = []
    with torch.no_grad():
        forced.run(states(), experts)
        with watching(stepper.modules, [f"{e}.w1" for e in experts], lambda name, _: seen.append(name)):
            forced.run(states(), experts[1:3])
    assert sorted(seen) == [f"{expert}.w1" for expert in experts[1:3]]


def test_top_k_and_the_last_products_are_as_before(forcing: Forcing) -> None:
    stepper, forced = forcing
    owner, block = stepper.modules[forced.block.top_k_owner], stepper.modules[forced.block.name]
    with torch.no_grad():
        before = block(states())
        forced.run(states(), forced.block.experts)
        forced.run(states(), forced.block.experts)
        after = block(states())
    assert owner.top_k == 2
    first = [values[0] if isinstance(values, tuple) else values for values in (before, after)]
    assert torch.equal(*first)
