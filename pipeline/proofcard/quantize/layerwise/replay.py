"""A block's call that goes like a recorded one, as far as its loop over experts."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from proofcard.quantize.layerwise.ways import Ending, Way, results, searches


class Ended(Exception):
    """All is added up, and what the block returns is known."""


class OtherWay(Exception):
    """A call does not go like the recorded one."""


class Replay(TorchFunctionMode):
    """A block's call: once indices and weights are there, `fill` adds up, and no more tokens are found.

    Where the `ending` is known, the first search for tokens raises Ended: not one of all experts is asked.
    """

    def __init__(self, way: Way, ending: Ending | None, fill: Callable[..., None]) -> None:
        super().__init__()
        self.done = False
        self._way, self._ending, self._fill = way, ending, fill
        self._wanted = {way.chosen, way.weights, way.total, *(ending.parts if ending is not None else ())}
        self._seen: dict[tuple[int, int], Any] = {}
        self._step = 0

    def output(self, shape: torch.Size) -> Any:
        """What the block returns for an input of this shape; only after Ended."""
        assert self._ending is not None
        return self._ending.of(self._seen, self._seen[self._way.total], shape)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.done:
            if self._ending is not None and searches(function, args, kwargs):
                raise Ended
            return _nothing(function, args, kwargs or {})
        way, step = self._way, self._step
        if function != way.functions[step]:  # a property is another object each time
            raise OtherWay
        returned = function(*args, **(kwargs or {}))
        for place, value in enumerate(results(returned)):
            if (step, place) in self._wanted:
                self._seen[step, place] = value
        self._step += 1
        if self._step == len(way.functions):
            self._fill(*(self._seen[place] for place in (way.chosen, way.weights, way.total)))
            self.done = True
        return returned


def _nothing(function: Any, args: Any, named: dict[str, Any]) -> Any:
    """What a function returns; a search for elements finds none."""
    if not searches(function, args, named):
        return function(*args, **named)
    if function is torch.where or named.get("as_tuple") or args[1:] == (True,):
        return tuple(_no_indices(args[0]) for _ in range(args[0].dim()))
    return _no_indices(args[0], args[0].dim())


def _no_indices(searched: torch.Tensor, *columns: int) -> torch.Tensor:
    return torch.empty((0, *columns), dtype=torch.int64, device=searched.device)
