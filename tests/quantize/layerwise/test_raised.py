"""With all experts selected: which rows each gets, known without calling one, and the same statistics."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from quantize.layerwise.own_blocks import (
    WIDTH,
    BySlot,
    Dropping,
    Early,
    Gate,
    Own,
    Plain,
    ScaledGate,
    Telling,
    Twice,
    drawn,
    modules,
    names,
)
from quantize.layerwise.test_routed import ARCHITECTURES, of_transformers, tokens
from torch import nn
from torch.nn.functional import linear

from proofcard.quantize.layerwise import excerpts, raised
from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.experts import Forced
from proofcard.quantize.layerwise.hooks import watching
from proofcard.quantize.layerwise.observer import magnitude
from proofcard.quantize.layerwise.raised import Raised, selecting_all
from proofcard.quantize.layerwise.structure import Block

WEIGHT = torch.zeros(24, 64, dtype=torch.bfloat16)


@pytest.fixture(autouse=True)
def _no_gradients(monkeypatch: pytest.MonkeyPatch) -> Any:
    """And what a GPU allows."""
    monkeypatch.setattr(excerpts, "portable", lambda device: True)
    with torch.no_grad():
        yield


def described(block: nn.Module) -> Block:
    """With the owner of `top_k` as ModelOpt looks for it."""
    owner = "block" if hasattr(block, "top_k") else "block.gate"
    return Block("block", names(block), owner)


def learned(block: nn.Module, gated: bool = True) -> Raised:
    made = Raised(described(block), modules(block), gated)
    made.learn(tokens(1, 40))
    return made


def given(block: nn.Module, states: torch.Tensor) -> list[torch.Tensor]:
    """The rows that each expert really gets."""
    rows: dict[str, torch.Tensor] = {}
    with (
        selecting_all(described(block), modules(block)),
        watching(modules(block), names(block), rows.__setitem__),
    ):
        block(states)
    return [rows[name] for name in names(block)]


def blocks() -> dict[str, Callable[[], nn.Module]]:
    own: dict[str, Callable[[], nn.Module]] = {
        "token by token": lambda: drawn(Own(Gate)),
        "slot by slot": lambda: drawn(BySlot(Gate)),
    }
    theirs = ARCHITECTURES.keys() - {"deepseek_v2"}  # sorts all rows at once
    return own | {name: lambda name=name: of_transformers(name) for name in sorted(theirs)}  # type: ignore[misc]


@pytest.mark.parametrize("kind", blocks())
def test_every_expert_gets_every_row_in_the_order_that_was_learned(kind: str) -> None:
    block, states = blocks()[kind](), tokens(2, 50)
    made, rows = learned(block), states.reshape(-1, WIDTH)
    assert made.gives_all(states)
    in_order = [torch.equal(found, rows) for found in given(block, states)]
    assert all(len(found) == len(rows) for found in given(block, states))
    assert made._way is not None
    assert made._way.by_slot is not all(in_order)


def test_no_expert_is_called_for_it_and_top_k_is_as_before() -> None:
    block = drawn(BySlot(Gate))
    made, called = learned(block), []
    with watching(modules(block), names(block), lambda name, _: called.append(name)):
        assert made.gives_all(tokens(2, 30))
    assert called == []
    assert block.top_k == 2


@pytest.mark.parametrize("kind", [Twice, Dropping, Early])
def test_a_block_that_may_deal_otherwise_is_not_taken_for_granted(kind: type[Own]) -> None:
    """With few tokens each expert gets all: not with many, or not plainly."""
    block, states = drawn(kind(Gate)), tokens(1, 90) * 9
    made = learned(block)
    every = all(sorted_alike(found, states.reshape(-1, WIDTH)) for found in given(block, states))
    assert not made.gives_all(states) or every


def test_an_expert_given_to_a_token_twice_is_noticed() -> None:
    block = drawn(Twice(Gate))
    made = learned(block)
    assert made.gives_all(tokens(1, 90) * 0)
    assert not made.gives_all(tokens(1, 90) * 90)


def test_tokens_that_all_choose_alike_show_no_order() -> None:
    """Another batch may show one, so the order is taken for another."""
    block = drawn(BySlot(Gate))
    made = Raised(described(block), modules(block), True)
    made.learn(tokens(1, 1).expand(1, 40, WIDTH).contiguous())
    assert made._way is not None and made._way.by_slot


def test_a_block_that_calls_its_experts_otherwise_is_not_understood() -> None:
    class Whole(Own):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = sum(expert(hidden_states) for expert in self.experts[: self.top_k])  # type: ignore[misc]
            return made

    for block in (drawn(Whole(Gate)), drawn(Telling(ScaledGate)), of_transformers("deepseek_v2")):
        assert not learned(block).gives_all(tokens(1, 9))


Maxima = dict[str, float]


def forced(block: nn.Module, made: Raised | None, batches: list[torch.Tensor]) -> tuple[Maxima, list[Any]]:
    """The largest magnitude of each linear's input after a forced pass; and what the block was asked for."""
    linears = [
        name
        for name, module in modules(block).items()
        if isinstance(module, nn.Linear) and ".experts." in name
    ]
    parts = {name.rsplit(".", 1)[1] for name in linears}
    last = {name for name in linears if name.endswith(("down", "two"))}
    probe = SimpleNamespace(whole=lambda _: set(linears) - last, last=lambda _: last)
    assert len(parts) in (2, 3)
    pass_ = Forced(described(block), modules(block), probe, Excerpts(), made)  # type: ignore[arg-type]
    seen: Maxima = {}
    through: list[Any] = []
    own = pass_._through_block
    pass_._through_block = lambda states: (through.append(states), own(states))[1]  # type: ignore[method-assign]

    def note(name: str, values: torch.Tensor) -> None:
        seen[name] = max(seen.get(name, 0.0), float(magnitude(values)))

    with watching(modules(block), linears, note):
        for states in batches:
            pass_.run(states, names(block))
    return seen, through


BATCHES = [tokens(2, 50), tokens(3, 21), tokens(1, 1), tokens(2, 50) * 2]


@pytest.mark.parametrize("kind", blocks())
def test_the_statistics_are_those_of_the_block_s_own_loop(kind: str) -> None:
    block = blocks()[kind]()
    with_it, without = forced(block, learned(block), BATCHES), forced(block, None, BATCHES)
    assert with_it[0] == without[0]
    assert with_it[1] == []
    assert without[1]


def test_where_a_row_s_bits_depend_on_its_place_the_block_keeps_its_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For the batches whose shape it is."""

    def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        made = linear(rows, weight)
        if len(rows) == 100:
            made[-1] *= 1 + 2**-7
        return made

    monkeypatch.setattr(excerpts, "product", product)
    block = drawn(BySlot(Gate))
    assert [len(states) for states in forced(block, learned(block), BATCHES)[1]] == [2, 2]
    in_order = drawn(Own(Gate))
    assert forced(in_order, learned(in_order), BATCHES)[1] == []


def test_experts_that_are_not_known_keep_the_block_s_order() -> None:
    block = drawn(BySlot(Plain))
    assert len(forced(block, learned(block, gated=False), BATCHES)[1]) == len(BATCHES)


def test_a_cpu_keeps_the_block_s_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not Excerpts().anywhere(64, WEIGHT)
    block = drawn(BySlot(Gate))
    assert len(forced(block, learned(block), BATCHES)[1]) == len(BATCHES)


def test_too_little_memory_to_ask_leaves_it_to_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    block = drawn(BySlot(Gate))
    made = learned(block)

    class Full(raised.Replay):
        def __torch_function__(self, *call: Any) -> Any:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(raised, "Replay", Full)
    assert not made.gives_all(tokens(1, 9))
    assert block.top_k == 2


def sorted_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return sorted(one.float().tolist()) == sorted(other.float().tolist())
