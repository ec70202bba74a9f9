"""Texts that run together on a GPU, each with the bits that it has alone.

A matrix product of more rows may be another kernel, which adds in another order; so may a sum. Therefore
only experts see rows of several texts, in products of `ROWS` rows whatever their number (the last one is
filled up with zeros); every other module of a layer, the last norm and the output head are called text by
text. What is left is done element by element, or row by row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

ROWS = 2048
"""Rows of an expert's product: what one of 256 gets of 32 texts of 2,048 tokens, so one launch as a rule."""


class Apart:
    """How modules are called while `texts` of `tokens` tokens each run together; `rows` as `ROWS`."""

    def __init__(self, rows: int = ROWS) -> None:
        self._rows, self._texts, self._tokens = rows, 1, 1

    def of(self, texts: int, tokens: int) -> None:
        """Set what runs from now on."""
        self._texts, self._tokens = texts, tokens

    @contextmanager
    def arranged(self, layer: Any, experts: Sequence[Any], around: Sequence[Any]) -> Iterator[None]:
        """A context in which `layer` with these `experts`, and the modules `around` the layers, run so."""
        linears = [m for expert in experts for m in expert.modules() if isinstance(m, torch.nn.Linear)]
        with ExitStack() as stack:
            for module in linears:
                stack.enter_context(_called(module, partial(in_blocks, module.forward, self._rows)))
            for module in [*_whole(layer, set(experts)), *around]:
                stack.enter_context(_called(module, partial(self._text_by_text, module.forward)))
            yield

    def _text_by_text(self, forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if self._texts == 1 or not any(map(self._is_shared, [*args, *named.values()])):
            return forward(*args, **named)
        parts = []
        for text in range(self._texts):
            own = partial(self._of_text, text)
            parts.append(forward(*map(own, args), **{name: own(value) for name, value in named.items()}))
        return _joined(parts)

    def _is_shared(self, value: Any) -> bool:
        """Whether a tensor is of every text: [texts, …, tokens, …], a mask too, or [texts · tokens, …]."""
        if isinstance(value, tuple | list):
            return any(map(self._is_shared, value))
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            return False
        by_text = len(value) == self._texts and self._tokens in value.shape[1:]
        return by_text or len(value) == self._texts * self._tokens

    def _of_text(self, text: int, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._of_text(text, each) for each in value)
        return value.chunk(self._texts)[text] if self._is_shared(value) else value


def in_blocks(function: Callable[[torch.Tensor], torch.Tensor], rows: int, values: torch.Tensor) -> Any:
    """`function` of `values` [any, …], called with exactly `rows` rows at a time; zeros fill the last."""
    if not len(values):
        return function(values)
    count = len(values)
    if missing := -count % rows:
        values = torch.nn.functional.pad(values, (0, 0) * (values.ndim - 1) + (0, missing))
    parts = [function(values[at : at + rows]) for at in range(0, len(values), rows)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[:count]


def _whole(module: Any, experts: set[Any]) -> Iterator[Any]:
    """The largest modules below one that no expert is in."""
    for child in module.children():
        if child in experts:
            continue
        if experts.isdisjoint(child.modules()):
            yield child
        else:
            yield from _whole(child, experts)


@contextmanager
def _called(module: Any, function: Callable[..., Any]) -> Iterator[None]:
    """A context in which calling the module calls `function`; its hooks run as before."""
    module.forward = function
    try:
        yield
    finally:
        del module.forward


def _joined(parts: list[Any]) -> Any:
    """What each text gave, as one answer for all."""
    first = parts[0]
    if isinstance(first, tuple | list):
        return type(first)(_joined(list(each)) for each in zip(*parts, strict=True))
    return torch.cat(parts) if isinstance(first, torch.Tensor) and first.ndim else first
