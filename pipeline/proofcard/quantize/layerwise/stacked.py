"""Merges the first products of several experts into one, when there are too few rows to fill a device.

Only done where the result is bit-identical to separate products: both are computed once for every shape and
compared. The same shape always runs the same kernel, whatever the values.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch.nn.functional import linear as product

from proofcard.quantize.layerwise.hooks import answered

_ENOUGH = 8192  # rows that fill a device in one expert's product; on an H100, stacking only helps below
_BYTES = 256 << 20  # of weights in one stack


class Stack:
    """Linears without bias that take the same rows, with their weights stacked in one tensor."""

    def __init__(self, linears: Sequence[Any]) -> None:
        """The linears' weights become views of the stack's, so that there is no second copy."""
        self._linears = linears
        self._sizes = [linear.out_features for linear in linears]
        self._weight = torch.cat([linear.weight for linear in linears])
        for linear, part in zip(linears, self._weight.split(self._sizes), strict=True):
            if part.is_cuda:  # its memory belongs to the stream that reads the next layer
                linear.weight.record_stream(torch.cuda.current_stream(part.device))
            linear.weight = torch.nn.Parameter(part, requires_grad=False)
        self._equal: dict[int, bool] = {}

    def serves(self, rows: torch.Tensor) -> bool:
        """Whether one product of this many rows pays off and is bit-identical to separate products."""
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
        parts = zip(self._linears, columns, strict=True)
        with answered({linear: lambda _, part=part: part for linear, part in parts}):
            yield


def pays(device: torch.device) -> bool:
    """Whether one large product was measured to be faster there: not on a CPU, which small ones fill."""
    return device.type == "cuda"


def stacks(experts: Sequence[str], whole: set[str], modules: dict[str, Any]) -> list[tuple[list[str], Stack]]:
    """Experts in groups with the stack of each; `whole` names the linears that take their expert's own input.

    Empty where it does not pay, fewer than two experts fit into a stack, or a linear is not a plain product.
    """
    inside = {expert: [name for name in whole if name.startswith(expert + ".")] for expert in experts}
    linears = {expert: [modules[name] for name in sorted(names)] for expert, names in inside.items()}
    every = chain.from_iterable(linears.values())
    plain = all(type(linear) is torch.nn.Linear and linear.bias is None for linear in every)
    size = max((sum(linear.weight.nbytes for linear in each) for each in linears.values()), default=0)
    per_stack = _BYTES // size if size else 0
    if not plain or per_stack < 2 or not pays(modules[next(iter(whole))].weight.device):
        return []
    groups = [list(experts[start : start + per_stack]) for start in range(0, len(experts), per_stack)]
    return [(group, Stack([linear for expert in group for linear in linears[expert]])) for group in groups]
