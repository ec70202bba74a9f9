"""Experts that compute down(act(gate(x)) · up(x)), called without their modules.

On a GPU the host is what routed products wait for, and calling a module with its hooks takes it longer than
the products. Which linear is which, and the activation, follow from recorded calls: the ones that give the
same bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch.nn import functional

from proofcard.quantize.layerwise.ways import Call, Functions

_ACTIVATIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    functional.silu,
    functional.gelu,
    partial(functional.gelu, approximate="tanh"),
)

Answer = tuple[torch.Tensor, torch.Tensor]
"""An expert's output [rows, width], and what goes into its last product [rows, inner]."""


@dataclass(frozen=True)
class Gated:
    """The names of an expert's linears, within it, and its activation."""

    gate: str
    up: str
    down: str
    activation: Callable[[torch.Tensor], torch.Tensor]

    def of(self, expert: Any) -> Callable[[torch.Tensor], Answer]:
        """The expert as a function of its rows [rows, width]."""
        gate, up, down = (expert.get_submodule(name) for name in (self.gate, self.up, self.down))

        def answer(rows: torch.Tensor) -> Answer:
            inner = self.activation(functional.linear(rows, gate.weight)) * functional.linear(rows, up.weight)
            return functional.linear(inner, down.weight), inner

        return answer


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
    output, _ = one.of(expert)(call.rows)
    return torch.equal(output, call.output)
