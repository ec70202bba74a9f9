"""The routed pass without the model's loop gives the loop's bits, and keeps the loop where it might not."""

import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import pytest
import torch
from quantize.layerwise.conftest import batch, layer
from quantize.layerwise.own_blocks import (
    EXPERTS,
    SLOTS,
    WIDTH,
    Assigned,
    Backwards,
    BySlot,
    Dropping,
    Early,
    Ending,
    Gate,
    LimitedEnd,
    LimitedGate,
    LimitedSum,
    NamedEnd,
    Naming,
    Own,
    Plain,
    ScaledGate,
    Sometimes,
    Telling,
    TransposedEnd,
    Twice,
    WeighedEnd,
    drawn,
    modules,
    names,
)
from torch import nn

from proofcard.quantize.layerwise.crew import Crew
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.hooks import watching
from proofcard.quantize.layerwise.observer import magnitude
from proofcard.quantize.layerwise.routed import Routed, Watch, learned
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Block

ARCHITECTURES = {  # transformers' own blocks: sums in BF16 and float32, shared experts, grouped routing
    "mixtral": ("MixtralSparseMoeBlock", "MixtralConfig", "num_local_experts", {}),
    "qwen2_moe": ("Qwen2MoeSparseMoeBlock", "Qwen2MoeConfig", "num_experts", {}),
    "qwen3_moe": ("Qwen3MoeSparseMoeBlock", "Qwen3MoeConfig", "num_experts", {"norm_topk_prob": True}),
    "deepseek_v3": ("DeepseekV3MoE", "DeepseekV3Config", "n_routed_experts", {"n_group": 2, "topk_group": 1}),
    "glm4_moe": ("Glm4MoeMoE", "Glm4MoeConfig", "n_routed_experts", {}),
    "deepseek_v2": ("DeepseekV2MoE", "DeepseekV2Config", "n_routed_experts", {}),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def of_transformers(architecture: str) -> nn.Module:
    block, settings, experts, more = ARCHITECTURES[architecture]
    home = f"transformers.models.{architecture}"
    sizes = dict.fromkeys(("intermediate_size", "moe_intermediate_size"), 16)
    config = getattr(import_module(f"{home}.configuration_{architecture}"), settings)(
        hidden_size=WIDTH, num_experts_per_tok=SLOTS, **{experts: EXPERTS}, **sizes, **more
    )
    return drawn(getattr(import_module(f"{home}.modeling_{architecture}"), block)(config))


def tokens(samples: int, count: int) -> torch.Tensor:
    return torch.randn((samples, count, WIDTH), generator=torch.Generator().manual_seed(count)).bfloat16()


def routed(block: nn.Module) -> Routed:
    """The block, after one call with 40 tokens."""
    made = Routed(Block("block", names(block), "block"), modules(block), Crew(torch.device("cpu")))
    with made.learning():
        block(tokens(1, 40))
    return made


def call(
    block: nn.Module, made: Routed | None, states: torch.Tensor
) -> tuple[Any, dict[str, Any], dict[str, int]]:
    """A block's output, the largest magnitude of each expert linear's input, and the rows of each expert."""
    seen: dict[str, Any] = {}
    rows = dict.fromkeys(names(block), 0)
    linears = [
        name
        for name, module in modules(block).items()
        if ".experts." in name and isinstance(module, nn.Linear)
    ]

    def note(name: str, value: float) -> None:
        seen[name] = max(seen.get(name, 0.0), value)

    def take(name: str, count: int) -> None:
        rows[name] += count

    with (
        watching(
            modules(block),
            linears,
            lambda name, values: note(name, float(magnitude(values))) if len(values) else None,
        ),
        watching(modules(block), rows, lambda name, values: take(name, len(values))),
    ):
        if made is None:
            return block(states), seen, rows

        def note_all(linears: tuple[str, ...], values: torch.Tensor) -> None:
            for name, value in zip(linears, values.tolist(), strict=True):
                if value:
                    note(name, value)

        with made.taking_over(Watch(rows, note_all)):
            return block(states), seen, rows


def same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(same(*pair) for pair in zip(one, other, strict=True))
    return one.dtype == other.dtype and torch.equal(one.view(torch.int16), other.view(torch.int16))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("samples, count", [(1, 1), (2, 37), (3, 200)])
def test_every_block_gives_the_bits_the_maxima_and_the_rows_of_its_own_loop(
    architecture: str, samples: int, count: int
) -> None:
    block = of_transformers(architecture)
    made = routed(block)
    assert (made.way is None) == (architecture == "deepseek_v2")  # which sorts its tokens itself
    assert (made.ending is not None) == (architecture in ("mixtral", "qwen3_moe"))  # the others go on
    states = tokens(samples, count)
    theirs, ours = call(block, None, states), call(block, made, states)
    assert same(theirs[0], ours[0])
    assert theirs[1:] == ours[1:]


@pytest.mark.parametrize("samples, count", [(1, 1), (2, 37), (3, 200)])
def test_so_does_a_list_of_experts_that_finds_the_tokens_itself(samples: int, count: int) -> None:
    block = drawn(BySlot(Gate))
    made, states = routed(block), tokens(samples, count)
    assert made.way is not None and made.way.by_slot and made.ending is not None and made.gated is not None
    (output, seen, rows), (own, own_seen, own_rows) = call(block, made, states), call(block, None, states)
    assert same(output, own)
    assert (seen, rows) == (own_seen, own_rows)


def test_the_loop_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    block = of_transformers("mixtral")
    made = routed(block)
    for name in names(block):
        monkeypatch.setattr(modules(block)[name], "forward", None)
    call(block, made, tokens(2, 9))


@pytest.mark.parametrize("gated", [True, False])
def test_the_loop_takes_over_where_memory_does_not_suffice(
    monkeypatch: pytest.MonkeyPatch, gated: bool
) -> None:
    block = of_transformers("mixtral") if gated else drawn(Own(Plain))
    made = routed(block)

    def too_large(*_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("proofcard.quantize.layerwise.routed.add_weighted", too_large)
    theirs, ours = call(block, None, tokens(2, 50)), call(block, made, tokens(2, 50))
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]
    assert made.way is None


def test_weights_that_are_replaced_after_a_call_are_not_kept() -> None:
    block = of_transformers("mixtral")
    made = routed(block)
    assert made.gated is not None
    gone = []
    for linear in (module for name, module in block.named_modules() if name.endswith(("w1", "w2", "w3"))):
        gone.append(weakref.ref(linear.weight))
        linear.weight = nn.Parameter(linear.weight * 2, requires_grad=False)
    assert len(gone) == 3 * EXPERTS and not any(weight() is not None for weight in gone)
    theirs, ours = call(block, None, tokens(2, 50)), call(block, made, tokens(2, 50))
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


def test_experts_of_another_kind_are_called_as_modules() -> None:
    block = drawn(Own(Plain))
    made = routed(block)
    assert made.way is not None and made.gated is None
    theirs, ours = call(block, None, tokens(2, 50)), call(block, made, tokens(2, 50))
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


@pytest.mark.parametrize("expert", [Gate, LimitedGate])
@pytest.mark.parametrize("kind", [Own, LimitedSum])
def test_a_limit_that_nothing_reached_when_recorded_still_holds(kind: type[Own], expert: type[Gate]) -> None:
    block = drawn(kind(expert))
    made = routed(block)
    assert (made.way is None, made.gated is None) == (kind is LimitedSum, expert is LimitedGate)
    far = 1e4 * tokens(2, 50)
    theirs, ours = call(block, None, far), call(block, made, far)
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


def test_a_block_that_adds_up_in_another_order_keeps_its_loop() -> None:
    class Three(Backwards):
        def __init__(self, expert: Callable[[], nn.Module]) -> None:
            super().__init__(expert)
            self.top_k = 3  # of two, either comes first with the same sum

    assert routed(drawn(Three(Plain))).way is None


@pytest.mark.parametrize("kind", [Twice, Sometimes, Early])
def test_a_call_that_goes_another_way_takes_the_loop(kind: type[Own]) -> None:
    block = drawn(kind(Plain))
    block.gate.weight.mul_(0.1)
    made = routed(block)
    assert made.way is not None
    block.gate.weight.mul_(200)
    states = tokens(2, 50)
    theirs, ours = call(block, None, states), call(block, made, states)
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]
    assert getattr(block, "far", True)


def test_another_top_k_takes_the_loop() -> None:
    block = drawn(Own(Plain))
    made = routed(block)
    block.top_k = EXPERTS
    theirs, ours = call(block, None, tokens(1, 20)), call(block, made, tokens(1, 20))
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


def test_no_expert_s_tokens_are_looked_for_where_the_end_is_plain() -> None:
    block = drawn(Ending(Plain))
    made = routed(block)
    block.turns = 0
    theirs = call(block, None, tokens(2, 50))
    assert block.turns == EXPERTS
    ours = call(block, made, tokens(2, 50))
    assert block.turns == EXPERTS + 1
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


@pytest.mark.parametrize("kind", [LimitedEnd, WeighedEnd, TransposedEnd, NamedEnd])
def test_a_block_that_has_more_to_do_goes_to_its_end(kind: type[Ending]) -> None:
    block = drawn(kind(Plain))
    made = routed(block)
    assert made.ending is None
    states = 1e4 * tokens(2, 50)
    theirs, ours = call(block, None, states), call(block, made, states)
    if kind is NamedEnd:  # not compared when it was learned: its loop is kept
        theirs, ours = ((each[0]["output"], *each[1:]) for each in (theirs, ours))
    assert (made.way is None) == (kind is NamedEnd)
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


def test_what_is_changed_in_place_before_the_loop_counts() -> None:
    block = drawn(Dropping(Plain))
    made = routed(block)
    assert made.way is not None
    theirs, ours = call(block, None, tokens(2, 50)), call(block, made, tokens(2, 50))
    assert not theirs[0].reshape(-1, WIDTH)[60:].any()
    assert same(theirs[0], ours[0]) and theirs[1:] == ours[1:]


def test_a_block_that_is_not_understood_keeps_its_loop() -> None:
    block = drawn(Assigned(Plain))
    made = routed(block)
    assert made.way is None
    assert same(call(block, None, tokens(1, 20))[0], call(block, made, tokens(1, 20))[0])


@pytest.mark.parametrize("kind, expert", [(Telling, ScaledGate), (Naming, Gate), (Naming, Plain)])
def test_experts_that_are_called_with_more_than_their_rows_keep_the_loop(
    kind: type[Own], expert: type[nn.Module]
) -> None:
    block = drawn(kind(expert))
    made = routed(block)
    assert made.way is None
    theirs, ours = call(block, None, tokens(1, 20)), call(block, made, tokens(1, 20))
    assert same(theirs[0], ours[0])
    assert theirs[1:] == ours[1:]
    assert sum(theirs[2].values()) == 20 * SLOTS


def test_a_layer_s_blocks_are_learned_from_tokens_that_are_no_padding(
    loading: Callable[[int], Stepper],
) -> None:
    first = batch(2, 9)
    first.attention_mask[0, :4] = 0
    seen: list[int] = []
    stepper = loading(0)
    block = layer(0).blocks[0]
    with watching(stepper.modules, [block.name], lambda _, states: seen.append(states.shape[1])):
        (made,) = learned(stepper, Crew(torch.device("cpu")), layer(0), 0, cast(Hidden, None), first, True)
    assert seen == [5, 5]  # once more with all experts selected
    assert made.way is not None and made.gated is not None and made.raised is not None
