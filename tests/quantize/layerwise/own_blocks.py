"""Blocks of experts that take a way of their own, for `test_routed.py`."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

WIDTH, EXPERTS, SLOTS = 32, 6, 2


def drawn(block: nn.Module) -> nn.Module:
    """The block in BF16 with weights of its own."""
    random = torch.Generator().manual_seed(1)
    block = block.to(torch.bfloat16).eval()
    for parameter in block.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.2)
    return block


def modules(block: nn.Module) -> dict[str, Any]:
    return {"block": block} | {f"block.{name}": module for name, module in block.named_modules() if name}


def names(block: nn.Module) -> tuple[str, ...]:
    return tuple(f"block.experts.{number}" for number in range(len(block.experts)))  # type: ignore[arg-type]


class Own(nn.Module):
    """A block whose parts can be replaced; `top_k` slots."""

    def __init__(self, expert: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.top_k = SLOTS
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(expert() for _ in range(EXPERTS))

    def order(self) -> list[int]:
        return list(range(EXPERTS))

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights, chosen = torch.topk(scores, self.top_k, dim=-1)
        return chosen, weights

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        states = hidden_states.reshape(-1, WIDTH)
        chosen, weights = self.choose(self.gate(states).float().softmax(dim=-1))
        total = torch.zeros_like(states)
        for number in self.order():
            row, slot = torch.where(chosen == number)
            if row.numel():
                part = self.weighed(self.called(number, states[row]), weights[row, slot, None])
                total.index_add_(0, row, part.to(total.dtype))
        return total.view_as(hidden_states)

    def called(self, number: int, rows: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.experts[number](rows)
        return made

    def weighed(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return output * weights


class Searching(nn.ModuleList):
    """Finds each expert's tokens slot by slot, in a mask."""

    def forward(self, states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(states)
        mask = nn.functional.one_hot(chosen, len(self)).permute(2, 1, 0)
        for number in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
            slot, row = torch.where(mask[number].squeeze(0))
            some = states[None, row].reshape(-1, states.shape[-1])
            part = self[number](some) * weights[row, slot, None]
            total.index_add_(0, row, part.to(states.dtype))
        return total


class BySlot(Own):
    """Experts that are called as one, and search themselves: the arrangement of MiniMax-M2's own code."""

    def __init__(self, expert: Callable[[], nn.Module]) -> None:
        super().__init__(expert)
        self.experts = Searching(self.experts)

    def forward(self, hidden_states: torch.Tensor) -> Any:
        states = hidden_states.view(-1, WIDTH)
        scores = self.gate(states)
        chosen, weights = self.choose(scores.float().sigmoid())
        weights = (weights / weights.sum(dim=-1, keepdim=True)).to(scores.dtype)
        return self.experts(states, chosen, weights).reshape(hidden_states.shape), scores


class Plain(nn.Module):
    """One activation between two linears: no gate."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(rows).tanh())


class Gate(nn.Module):
    """A gate whose values are limited, which few tokens reach."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = (
            nn.Linear(*size, bias=False) for size in ((WIDTH, 16),) * 2 + ((16, WIDTH),)
        )

    def limited(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.limited(self.gate(rows))) * self.up(rows))


class ScaledGate(Gate):
    """Wants to be told more than its rows."""

    def forward(self, rows: torch.Tensor, *, scale: float) -> torch.Tensor:
        made: torch.Tensor = super().forward(rows) * scale
        return made


class Telling(Own):
    """Tells its experts."""

    def called(self, number: int, rows: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.experts[number](rows, scale=1.0)
        return made


class Naming(Own):
    """Gives its experts their rows by name."""

    def called(self, number: int, rows: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.experts[number](rows=rows)
        return made


class LimitedGate(Gate):
    def limited(self, values: torch.Tensor) -> torch.Tensor:
        return values.clamp(max=1e4)


class LimitedSum(Own):
    def weighed(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (output * weights).clamp(-1e4, 1e4)


class Backwards(Own):
    def order(self) -> list[int]:
        return list(reversed(range(EXPERTS)))


class Twice(Own):
    """Gives a token the same expert twice when it is far from zero."""

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, weights = super().choose(scores)
        far = scores.amax(dim=-1, keepdim=True) > 0.9
        self.far = bool(far.any())
        return torch.where(far, chosen[:, :1], chosen), weights


class Early(Own):
    """Calls an expert before it decides, when there are many tokens."""

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if len(scores) > 60:
            self.experts[1](scores.new_zeros((3, WIDTH)).bfloat16())
        return super().choose(scores)


class Sometimes(Own):
    """Decides in another way for many tokens."""

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, weights = super().choose(scores)
        return (chosen, weights) if len(scores) < 60 else (chosen.flip(1), weights * 0.5)


class Dropping(Own):
    """Takes away the weights of some tokens at the last moment, in place; none of few tokens."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        states = hidden_states.reshape(-1, WIDTH)
        chosen, weights = self.choose(self.gate(states).float().softmax(dim=-1))
        total = torch.zeros_like(states)
        weights[torch.arange(len(states)) >= 60] = 0
        for number in range(EXPERTS):
            row, slot = torch.where(chosen == number)
            part = self.experts[number](states[row]) * weights[row, slot, None]
            total.index_add_(0, row, part.to(total.dtype))
        return total.view_as(hidden_states)


class Ending(Own):
    """Counts the turns of its loop, and has an end of its own."""

    turns = 0

    def order(self) -> Iterator[int]:  # type: ignore[override]
        for number in range(EXPERTS):
            self.turns += 1
            yield number

    def forward(self, hidden_states: torch.Tensor) -> Any:
        return self.end(super().forward(hidden_states))

    def end(self, output: torch.Tensor) -> Any:
        return output


class LimitedEnd(Ending):
    def end(self, output: torch.Tensor) -> torch.Tensor:
        return output.clamp(-1e4, 1e4)


class WeighedEnd(Ending):
    def end(self, output: torch.Tensor) -> torch.Tensor:
        return output * 1.0


class TransposedEnd(Ending):
    def end(self, output: torch.Tensor) -> torch.Tensor:
        return output.transpose(0, 1)


class NamedEnd(Ending):
    def end(self, output: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": output}


class Assigned(Own):
    """Adds up with an assignment instead of `index_add_`."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        states = hidden_states.reshape(-1, WIDTH)
        chosen, weights = self.choose(self.gate(states).float().softmax(dim=-1))
        total = torch.zeros_like(states)
        for number in range(EXPERTS):
            row, slot = torch.where(chosen == number)
            total[row] += (self.experts[number](states[row]) * weights[row, slot, None]).to(total.dtype)
        return total.view_as(hidden_states)
