"""The routed pass of a block of experts without the model's own loop over them.

Models look for each expert's tokens in turn: on a GPU every search waits for its result, and every sum is
sorted for itself. Here the tokens of all experts are sorted once. Which token goes where and with which
weight is still decided by the model's own code, which runs with its searches answered by "none"; the experts
are the model's own modules, called with the same rows in the same order; and a token's weighted outputs are
added one by one, expert by expert, every sum rounded as the model rounds it.

A block whose way is not plain from a recorded call (`ways`), or whose output would differ in a bit there,
keeps its own loop; so does a call that does not go like the recorded one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from proofcard.calibration.batches import Batch
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Block, Layer
from proofcard.quantize.layerwise.ways import Recording, Way, results

_TOKENS = 256  # of the recorded call
_ROWS = 1 << 15  # of experts' inputs in memory at a time
_ALIGNED = 256  # bytes: a matrix that begins elsewhere may get another cuBLAS kernel
_SEARCHES = (torch.nonzero, torch.Tensor.nonzero, torch.argwhere, torch.Tensor.argwhere)

Tensor = torch.Tensor


class _OtherWay(Exception):
    """A call does not go like the recorded one."""


class Routed:
    """One block. `learning` records a call; `taking_over` then replaces the loop, where that is exact."""

    def __init__(self, block: Block, modules: dict[str, Any]) -> None:
        self.way: Way | None = None
        self._block = modules[block.name]
        self._experts = [modules[name] for name in block.experts]

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Record the block's calls; the way of one is kept if it gives the same output."""
        own = self._block.forward

        def forward(*args: Any, **named: Any) -> Any:
            with Recording(self._experts) as recording:
                output = own(*args, **named)
            self.way = recording.way(_tokens(args, named))
            if self.way is not None and not _alike(output, self._run(own, args, named)):
                self.way = None
            return output

        with _replaced(self._block, forward):
            yield

    @contextmanager
    def taking_over(self) -> Iterator[None]:
        """Let the block's calls skip its loop, if its way is known."""
        own = self._block.forward
        if self.way is None:
            yield
            return
        with _replaced(self._block, lambda *args, **named: self._run(own, args, named)):
            yield

    def _run(self, own: Callable[..., Any], args: Any, named: Any) -> Any:
        assert self.way is not None
        replay = _Replay(self.way, self._experts, _tokens(args, named))
        try:
            with replay:
                output = own(*args, **named)
        except _OtherWay:
            return own(*args, **named)
        return output if replay.done else own(*args, **named)


class _Replay(TorchFunctionMode):
    """A block's call: once indices and weights are there, its sum is filled, and it finds no more tokens."""

    def __init__(self, way: Way, experts: list[Any], tokens: Tensor) -> None:
        super().__init__()
        self.done = False
        self._way, self._experts, self._tokens = way, experts, tokens
        self._seen: dict[tuple[int, int], Any] = {}
        self._step = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.done:
            return _nothing(function, args, kwargs or {})
        way, step = self._way, self._step
        if function != way.functions[step]:  # a property is another object each time
            raise _OtherWay
        returned = function(*args, **(kwargs or {}))
        for place, value in enumerate(results(returned)):
            if (step, place) in (way.chosen, way.weights, way.total):
                self._seen[step, place] = value
        self._step += 1
        if self._step == len(way.functions):
            seen = (self._seen[place] for place in (way.chosen, way.weights, way.total))
            add_up(self._experts, self._tokens, way, *seen)
            self.done = True
        return returned


def _nothing(function: Any, args: Any, named: dict[str, Any]) -> Any:
    """What a function returns; a search for elements finds none."""
    if function is torch.where and len(args) == 1 and not named:
        return tuple(_no_indices(args[0]) for _ in range(args[0].dim()))
    if function in _SEARCHES:
        if named.get("as_tuple") or args[1:] == (True,):
            return tuple(_no_indices(args[0]) for _ in range(args[0].dim()))
        return _no_indices(args[0], args[0].dim())
    return function(*args, **named)


def _no_indices(searched: Tensor, *columns: int) -> Tensor:
    return torch.empty((0, *columns), dtype=torch.int64, device=searched.device)


def add_up(
    experts: list[Any], tokens: Tensor, way: Way, chosen: Tensor, weights: Tensor, total: Tensor
) -> None:
    """Add each expert's weighted output for `tokens` [tokens, width] to `total`, which has their shape.

    Raises:
        _OtherWay: when the shapes are not those of the way, or a token has an expert twice.
    """
    count, slots = len(tokens), way.slots
    if chosen.shape != (count, slots) or weights.shape != chosen.shape or len(total) != count:
        raise _OtherWay
    flat = (chosen.t() if way.by_slot else chosen).reshape(-1)
    sorted_experts, order = flat.sort(stable=True)
    ascending, by_expert = chosen.sort(dim=1)
    twice = (ascending[:, 1:] == ascending[:, :-1]).any()  # what the model adds at once is rounded once
    ends = torch.searchsorted(sorted_experts, torch.arange(len(experts), device=flat.device), right=True)
    *bounds, again = torch.cat([ends, twice[None].long()]).tolist()
    if again or bounds[-1] != len(flat):
        raise _OtherWay
    outputs = _outputs(experts, tokens, order % count if way.by_slot else order // slots, bounds)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    place = place.view(slots, count).t() if way.by_slot else place.view(count, slots)
    place, weights = place.gather(1, by_expert), weights.gather(1, by_expert)
    for slot in range(slots):
        part = outputs[place[:, slot]] * weights[:, slot, None]
        total.add_(part.to(total.dtype))


def _outputs(experts: list[Any], tokens: Tensor, rows: Tensor, bounds: list[int]) -> Tensor:
    """Each expert's outputs [rows, width] for its `rows` of `tokens`, one expert's after another's.

    `bounds` has where each expert's rows end.
    """
    aligned = tokens.shape[1] * tokens.element_size() % _ALIGNED == 0
    outputs: Tensor | None = None
    made: list[Tensor] = []
    begin = first = last = 0
    for number, end in enumerate(bounds):
        if end == begin:
            continue
        if end > last:
            outputs = _kept(outputs, made, first, len(rows))
            first, made = begin, []
            last = max(end, *(bound for bound in bounds[number:] if bound <= begin + _ROWS))
            gathered = tokens[rows[first:last]]
        own = gathered[begin - first : end - first]
        made.append(experts[number](own if aligned else own.clone()))
        begin = end
    outputs = _kept(outputs, made, first, len(rows))
    assert outputs is not None
    return outputs


def _kept(outputs: Tensor | None, made: list[Tensor], first: int, count: int) -> Tensor | None:
    """`outputs` with what some experts made from row `first` on."""
    if not made:
        return outputs
    if outputs is None:
        outputs = made[0].new_empty((count, made[0].shape[1]))
    torch.cat(made, out=outputs[first : first + sum(map(len, made))])
    return outputs


def learned(stepper: Stepper, layer: Layer, index: int, hidden: Hidden, first: Batch) -> list[Routed]:
    """The loaded layer's blocks, from a call with up to 256 tokens of the first batch, no padding."""
    routed = [Routed(block, stepper.modules) for block in layer.blocks]
    if routed:
        some = (np.flatnonzero(first.attention_mask[0]) if first.attention_mask[0].any() else np.arange(1))[
            :_TOKENS
        ]
        states = hidden.read(index, 0)[:1, torch.from_numpy(some)] if index else None
        ids = first.input_ids[:1, some]
        with ExitStack() as stack:
            for block in routed:
                stack.enter_context(block.learning())
            stepper.run(states, Batch(ids, np.ones_like(ids)), attention_mask=False)
    return routed


@contextmanager
def taking_over(blocks: list[Routed]) -> Iterator[None]:
    """Let the blocks' calls skip their loops."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block.taking_over())
        yield


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _tokens(args: Any, named: dict[str, Any]) -> Tensor:
    """A block's input as [tokens, width]."""
    states: Tensor = args[0] if args else named["hidden_states"]
    return states.reshape(-1, states.shape[-1])


def _alike(one: Any, other: Any) -> bool:
    """Whether a block's outputs are the same to the last bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.contiguous(), other.contiguous()
        same = (one.dtype, one.shape) == (other.dtype, other.shape)
        return same and torch.equal(one.view(torch.uint8), other.view(torch.uint8))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one is None and other is None
