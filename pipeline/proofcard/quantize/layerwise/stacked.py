"""The first products of several experts as one large one, when there are too few rows to fill a device.

It is done only where the bits stay those of a product for each: both ways are computed once for every shape
and compared. The same shape is given to the same kernel, whatever the numbers in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch.nn.functional import linear as product

_ENOUGH = 8192  # rows that fill a device in one expert's product; on an H100, stacking gains only below
_BYTES = 256 << 20  # of weights in one stack


class Stack:
    """Linears without bias that take the same rows, their weights one below the other in one tensor."""

    def __init__(self, linears: Sequence[Any]) -> None:
        """The linears keep their weights, as parts of the stack's: no second copy stays."""
        self._linears = linears
        self._sizes = [linear.out_features for linear in linears]
        self._weight = torch.cat([linear.weight for linear in linears])
        for linear, part in zip(linears, self._weight.split(self._sizes), strict=True):
            linear.weight = torch.nn.Parameter(part, requires_grad=False)
        self._equal: dict[int, bool] = {}

    def serves(self, rows: torch.Tensor) -> bool:
        """Whether one product of so many rows is worth it, and has the bits of one for each linear."""
        count = len(rows)
        if count >= _ENOUGH:
            return False
        if count not in self._equal:
            columns = product(rows, self._weight).split(self._sizes, dim=1)
            alone = (product(rows, linear.weight) for linear in self._linears)
            self._equal[count] = all(torch.equal(a, b) for a, b in zip(alone, columns, strict=True))
        return self._equal[count]

    @contextmanager
    def answering(self, rows: torch.Tensor) -> Iterator[None]:
        """Let each linear answer with its columns of the one product."""
        columns = product(rows, self._weight).split(self._sizes, dim=1)
        for linear, mine in zip(self._linears, columns, strict=True):
            linear.forward = lambda _, mine=mine: mine
        try:
            yield
        finally:
            for linear in self._linears:
                del linear.forward


def stacks(experts: Sequence[str], whole: set[str], modules: dict[str, Any]) -> list[tuple[list[str], Stack]]:
    """Experts in groups with the stack of each; `whole` names the linears that take their expert's own input.

    Empty where fewer than two experts fit into a stack, or a linear is no plain product.
    """
    inside = {expert: [name for name in whole if name.startswith(expert + ".")] for expert in experts}
    linears = {expert: [modules[name] for name in sorted(names)] for expert, names in inside.items()}
    every = chain.from_iterable(linears.values())
    plain = all(type(linear) is torch.nn.Linear and linear.bias is None for linear in every)
    size = max((sum(linear.weight.nbytes for linear in each) for each in linears.values()), default=0)
    together = _BYTES // size if size else 0
    if not plain or together < 2:
        return []
    groups = [list(experts[start : start + together]) for start in range(0, len(experts), together)]
    return [(group, Stack([linear for expert in group for linear in linears[expert]])) for group in groups]
