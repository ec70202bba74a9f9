"""Experts that compute down(act(gate(x)) · up(x)), called without their modules, all of a block together.

On a GPU the host is what routed products wait for, and calling a module with its hooks takes it longer than
the products. Which linear is which, and the activation, follow from recorded calls: the ones that give the
same bits. Products are an expert's own; what lies between them has the same bits for all rows at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch.nn import functional

from proofcard.quantize.layerwise.crew import Crew
from proofcard.quantize.layerwise.ways import Call, Functions

_ACTIVATIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    functional.silu,
    functional.gelu,
    partial(functional.gelu, approximate="tanh"),
)

_ALIGNED = 256  # bytes: a matrix that begins elsewhere may get another cuBLAS kernel


@dataclass(frozen=True)
class Gated:
    """The names of an expert's linears, within it, and its activation."""

    gate: str
    up: str
    down: str
    activation: Callable[[torch.Tensor], torch.Tensor]

    def linears(self, expert: Any) -> list[Any]:
        """An expert's gate, up and down."""
        return [expert.get_submodule(name) for name in (self.gate, self.up, self.down)]

    def of(self, expert: Any, rows: torch.Tensor) -> torch.Tensor:
        """The expert's output for its rows [rows, width]."""
        gate, up, down = (linear.weight for linear in self.linears(expert))
        inner = self.activation(functional.linear(rows, gate)) * functional.linear(rows, up)
        return functional.linear(inner, down)


class Together:
    """All experts of a block: one kernel for what lies between their products, whose rows are apart."""

    def __init__(self, one: Gated, experts: Sequence[Any], crew: Crew) -> None:
        self._activation, self._crew = one.activation, crew
        self._linears = [one.linears(expert) for expert in experts]

    def __call__(self, rows: torch.Tensor, sizes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The experts' outputs [rows, width], and what goes into their last products [rows, inner].

        `rows` [rows, width] are the first expert's, `sizes[0]` of them, then the second's and so on; they are
        overwritten.
        """
        # Not kept: the forced pass stacks weights anew, and the old ones would stay in memory.
        weights = [[linear.weight.t() for linear in linears] for linears in self._linears]
        gate, up = (rows.new_empty((len(rows), weights[0][0].shape[1])) for _ in range(2))
        inputs, gates, ups = (parts(whole, sizes) for whole in (rows, gate, up))
        busy = [number for number, size in enumerate(sizes) if size]

        def first(number: int) -> None:
            torch.mm(inputs[number], weights[number][0], out=gates[number])
            torch.mm(inputs[number], weights[number][1], out=ups[number])

        self._crew.run([partial(first, number) for number in busy])
        inner = self._activation(_joined(gate, gates)) * _joined(up, ups)
        products = parts(inner, sizes)

        def last(number: int) -> None:
            torch.mm(products[number], weights[number][2], out=inputs[number])

        self._crew.run([partial(last, number) for number in busy])
        return _joined(rows, inputs), inner


def parts(whole: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """Each expert's rows of `whole`, `sizes` of them, in memory of their own where they begin elsewhere."""
    split = whole.split(sizes)
    return list(split) if _aligned(whole) else [part.clone() for part in split]


def _joined(whole: torch.Tensor, split: list[torch.Tensor]) -> torch.Tensor:
    """`whole`, once its `parts` have been written."""
    return whole if _aligned(whole) else torch.cat(split)


def _aligned(rows: torch.Tensor) -> bool:
    return rows.shape[1] * rows.element_size() % _ALIGNED == 0


def gated(experts: Sequence[Any], calls: Sequence[Call]) -> Gated | None:
    """What all of these experts are, if each recorded call of one gives the same bits; else None."""
    names = _linears(experts[0])
    if len(names) != 3 or not calls or any(_linears(expert) != names for expert in experts):
        return None
    if len({(type(expert), repr(expert)) for expert in experts}) > 1 or not _only_gates(
        experts[0], calls[0].rows
    ):
        return None
    for gate, up, down in permutations(names):
        for activation in _ACTIVATIONS:
            one = Gated(gate, up, down, activation)
            if _fits(one, experts[0]) and all(_gives(one, experts[call.expert], call) for call in calls):
                return one
    return None


def _linears(expert: Any) -> list[str]:
    """The names of an expert's linears; none if it has a bias, other weights, or hooks of its own."""
    linears = [name for name, module in expert.named_modules() if type(module) is torch.nn.Linear]
    plain = {f"{name}.weight" for name in linears} == set(expert.state_dict())
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in expert.modules())
    return linears if plain and not hooked else []


def _only_gates(expert: Any, rows: torch.Tensor) -> bool:
    """Whether it calls nothing else: a limit, say, may not have mattered in the recorded calls."""
    with Functions() as functions:
        expert(rows)
    return functions.only_gate()


def _fits(one: Gated, expert: Any) -> bool:
    gate, up, down = (expert.get_submodule(name).weight.shape for name in (one.gate, one.up, one.down))
    return bool(gate == up == down[::-1])


def _gives(one: Gated, expert: Any, call: Call) -> bool:
    return torch.equal(one.of(expert, call.rows), call.output)
