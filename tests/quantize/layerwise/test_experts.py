"""The forced pass: chosen experts see every row, and the block is as it was afterwards."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from quantize.layerwise.conftest import layer

from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.experts import Forced
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.hooks import watching
from proofcard.quantize.layerwise.probe import probed
from proofcard.quantize.layerwise.stepper import Stepper

Forcing = tuple[Stepper, Forced]


@pytest.fixture
def forcing(loading: Callable[[int], Stepper], tmp_path: Path) -> Forcing:
    stepper, hidden = loading(0), Hidden(tmp_path, [(1, 2)], 64, torch.bfloat16, 0)
    with torch.no_grad():
        probe = probed(stepper, layer(0), 0, hidden)
    return stepper, Forced(layer(0).blocks[0], stepper.modules, probe, Excerpts())


def states() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(2, 7, 64).to(torch.bfloat16)


def sorted_rows(values: torch.Tensor) -> list[list[float]]:
    return sorted(values.float().tolist())


@pytest.mark.parametrize("direct", [False, True])
def test_every_expert_sees_every_row_once(forcing: Forcing, direct: bool) -> None:
    """Through Mixtral's block, which hands rows out in an order of its own, and by calling the experts."""
    stepper, forced = forcing
    forced._direct = direct or None
    experts, rows = forced.block.experts, states().reshape(-1, 64)
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad(), watching(stepper.modules, [f"{e}.w1" for e in experts], seen.__setitem__):
        forced.run(states(), experts)
    assert seen.keys() == {f"{expert}.w1" for expert in experts}
    assert all(sorted_rows(values) == sorted_rows(rows) for values in seen.values())
    assert not direct or all(torch.equal(values, rows) for values in seen.values())
    assert forced._direct is direct


def test_only_those_that_are_chosen_are_called(forcing: Forcing) -> None:
    stepper, forced = forcing
    forced._direct = True
    experts = forced.block.experts
    seen: list[str] = []
    with (
        torch.no_grad(),
        watching(stepper.modules, [f"{e}.w1" for e in experts], lambda name, _: seen.append(name)),
    ):
        forced.run(states(), experts[1:3])
    assert seen == [f"{expert}.w1" for expert in experts[1:3]]


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
