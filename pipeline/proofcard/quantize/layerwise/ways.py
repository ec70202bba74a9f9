"""How a block of experts routes, read from one recorded call of it: no model is known by name.

A block decides which expert takes which token with which weight, then looks for each expert's tokens, calls
the expert and adds its weighted output to a sum. The recorded call shows which function results are the
indices, the weights and the sum, and in which order an expert takes its tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

WEIGHING = ("mul", "__mul__", "__rmul__")
_SEARCHES = (torch.nonzero, torch.Tensor.nonzero, torch.argwhere, torch.Tensor.argwhere)

_MOVING = {
    "__bool__", "__eq__", "__get__", "__getitem__", "__index__", "__int__", "__iter__", "__len__", "any",
    "contiguous", "dim", "eq", "expand", "flatten", "index_add_", "index_select", "item", "numel", "permute",
    "reshape", "size", "squeeze", "t", "to", "tolist", "transpose", "type", "unbind", "unsqueeze", "view",
    *WEIGHING,
}  # fmt: skip
"""All that a loop over experts may call. Anything else may have changed nothing in the recorded call, and
change something in another: a limit, say."""

_ENDING = _MOVING - {*WEIGHING, "index_add_"} | {"reshape_as", "view_as"}
"""All that may be called after the last sum where the block's own end is left out."""

Place = tuple[int, int]
"""Where a tensor comes from: the number of the function call, and its place among what that returned."""


@dataclass(frozen=True)
class Way:
    """How a block routes, as places in its calls of `functions`, in order, up to its loop over experts.

    `chosen` int64 [tokens, slots] are the experts of a token, `weights` [tokens, slots] their weights and
    `total` [tokens, width] the sum of their outputs, zero at first. An expert takes its tokens slot by slot
    if `by_slot`, else token by token.
    """

    functions: tuple[Callable[..., Any], ...]
    chosen: Place
    weights: Place
    total: Place
    slots: int
    by_slot: bool


@dataclass(frozen=True)
class Ending:
    """What a block returns after its loop: results of the functions before it, or the sum (None)."""

    parts: tuple[Place | None, ...]
    alone: bool  # one tensor, not a tuple

    def of(self, seen: dict[Place, Any], total: torch.Tensor, shape: torch.Size) -> Any:
        """The output of a block whose input has this shape; the sum gets it, too."""
        parts = tuple(total.view(shape) if place is None else seen[place] for place in self.parts)
        return parts[0] if self.alone else parts


def searches(function: Any, args: Any, named: Any) -> bool:
    """Whether a call looks for elements: the loop over experts begins with one."""
    return function in _SEARCHES or (function is torch.where and len(args) == 1 and not named)


@dataclass(frozen=True)
class Call:
    """An expert's number and input [rows, width], and its output."""

    expert: int
    rows: torch.Tensor
    output: torch.Tensor


class Recording(TorchFunctionMode):
    """Keeps the torch functions that a block calls before its first expert, and what follows from experts."""

    def __init__(self, experts: Sequence[Any]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.plain = True  # no expert was given anything but its rows
        self._experts = experts
        self._hooks: list[Any] = []
        self._steps: list[tuple[Callable[..., Any], Any]] = []
        self._added: list[tuple[Any, ...]] = []
        self._searches: list[int] = []  # steps
        self._looped: set[str] = set()  # names of the functions that the loop calls, experts left out
        self._since: set[str] = set()  # after the last sum
        self._inside = False

    def __enter__(self) -> "Recording":
        for number, expert in enumerate(self._experts):
            self._hooks += [
                expert.register_forward_pre_hook(lambda *_: setattr(self, "_inside", True)),
                expert.register_forward_hook(
                    lambda _, args, named, output, number=number: self._end(number, args, named, output),
                    with_kwargs=True,
                ),
            ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _end(self, number: int, args: Any, named: Any, output: torch.Tensor) -> None:
        self._inside = False
        if len(args) == 1 and not named:
            self.calls.append(Call(number, args[0], output))
        else:
            self.plain = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if self._searches and not self._inside and not searches(function, args, kwargs):
            self._since.add(function.__name__)
        if function is torch.Tensor.index_add_:
            self._looped |= self._since
            self._since.clear()
        if function is torch.Tensor.index_add_:
            self._added.append(args)
        elif not self.calls:
            if searches(function, args, kwargs):
                self._searches.append(len(self._steps))
            self._steps.append((function, result))
        return result

    def way(self, tokens: torch.Tensor, either: bool = False) -> Way | None:
        """How the block routed `tokens` [tokens, width]; None where that is not plain from the call.

        With `either`, a call that shows two orders of an expert's tokens is taken to have gone slot by slot.
        """
        calls, added = self.calls, self._added
        if not calls or len(calls) != len(added) or any(len(args) != 4 for args in added):
            return None
        if not self._looped <= _MOVING or not self.plain:
            return None
        total = added[0][0]
        if any(args[0] is not total or args[1] != 0 for args in added):
            return None
        places = dict(self._places())
        sums = [place for place, tensor in places.items() if tensor is total]
        chosen = [(p, t) for p, t in places.items() if t.dtype == torch.int64 and _is_table(t, tokens)]
        weights = [(p, t) for p, t in places.items() if t.is_floating_point() and _is_table(t, tokens)]
        for place, experts in chosen:
            ways = [by_slot for by_slot in (False, True) if self._takes(tokens, experts, by_slot)]
            if experts.shape[1] == 1:
                ways = ways[:1]
            elif either:
                ways = ways[-1:]
            for origin, factors in weights:
                if sums and len(ways) == 1 and self._weighs(experts, factors, ways[0]):
                    last = max(place, origin, sums[0])[0]
                    # Until the loop begins, what it adds may still be changed in place.
                    if (begin := next((step for step in self._searches if step > last), None)) is None:
                        return None
                    functions = tuple(function for function, _ in self._steps[:begin])
                    return Way(functions, place, origin, sums[0], experts.shape[1], ways[0])
        return None

    def ending(self, way: Way, output: Any, states: torch.Tensor) -> Ending | None:
        """What the block returned for `states`, or None where that has to be left to the block itself."""
        if not self._since <= _ENDING or not isinstance(output, tuple | torch.Tensor):
            return None
        total = results(self._steps[way.total[0]][1])[way.total[1]]
        known = {id(tensor): place for place, tensor in self._places() if place[0] < len(way.functions)}
        parts: list[Place | None] = []
        for part in results(output):
            if not isinstance(part, torch.Tensor):
                return None
            same_memory = part.data_ptr() == total.data_ptr() and part.is_contiguous()
            if same_memory and (part.dtype, part.shape) == (total.dtype, states.shape):
                parts.append(None)
            elif id(part) in known:
                parts.append(known[id(part)])
            else:
                return None
        return Ending(tuple(parts), not isinstance(output, tuple))

    def _places(self) -> Iterator[tuple[Place, torch.Tensor]]:
        """Every tensor by its place, the latest first."""
        for step in reversed(range(len(self._steps))):
            for place, tensor in enumerate(results(self._steps[step][1])):
                if isinstance(tensor, torch.Tensor):
                    yield (step, place), tensor

    def _takes(self, tokens: torch.Tensor, chosen: torch.Tensor, by_slot: bool) -> bool:
        """Whether each expert got, in order, the rows that these indices give it."""
        for call, (_, _, index, _) in zip(self.calls, self._added, strict=True):
            rows, _ = _found(chosen, call.expert, by_slot)
            if not torch.equal(rows, index) or not torch.equal(tokens[rows], call.rows):
                return False
        return int(chosen.numel()) == sum(len(call.rows) for call in self.calls)

    def _weighs(self, chosen: torch.Tensor, weights: torch.Tensor, by_slot: bool) -> bool:
        """Whether what was added is each expert's output times these weights."""
        if weights.shape != chosen.shape:
            return False
        for call, (total, _, _, part) in zip(self.calls, self._added, strict=True):
            rows, slots = _found(chosen, call.expert, by_slot)
            if not torch.equal((call.output * weights[rows, slots, None]).to(total.dtype), part):
                return False
        return True


class Functions(TorchFunctionMode):
    """The names of the torch functions that are called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))

    def only_gate(self) -> bool:
        """Whether it was three products, one multiplication and one more function, an activation."""
        weighed = sum(name in WEIGHING for name in self.names)
        return len(self.names) == 5 and self.names.count("linear") == 3 and weighed == 1


def results(returned: Any) -> tuple[Any, ...]:
    """What a function returned, as a tuple."""
    return tuple(returned) if isinstance(returned, tuple | list) else (returned,)


def _is_table(tensor: torch.Tensor, tokens: torch.Tensor) -> bool:
    return tensor.dim() == 2 and len(tensor) == len(tokens) and tensor.shape[1] > 0


def _found(chosen: torch.Tensor, expert: int, by_slot: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of an expert in its order, and the slot of each."""
    if by_slot:
        slots, rows = torch.where(chosen.t() == expert)
    else:
        rows, slots = torch.where(chosen == expert)
    return rows, slots
