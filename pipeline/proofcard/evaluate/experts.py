"""What each expert's own quantization costs: both experts on the very rows that the source's router sends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from proofcard.evaluate.compute import Anatomy, Compute, Way


class ExpertErrors:
    """Sums over the rows of each expert e, in the source's run: ‖E'(x) − E(x)‖², ‖E(x)‖², and how many rows.

    E' is the checkpoint's expert, its inputs rounded as `way` says.
    """

    def __init__(self, inside: Anatomy, source: Compute, checkpoint: Compute, way: Way) -> None:
        self._names = [expert for experts in inside.blocks.values() for expert in experts]
        self._source, self._checkpoint, self._way = source, checkpoint, way
        self._found: dict[int, list[torch.Tensor]] = {}
        self._rows: dict[int, int] = {}
        self._on = False

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """A context in which the source's experts can be watched."""
        with ExitStack() as stack:
            for number, name in enumerate(self._names):
                module = self._source.stepper.modules[name]
                stack.callback(module.register_forward_hook(partial(self._see, number)).remove)
            yield

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A context in which the source runs, and its experts are compared."""
        self._on, self._found, self._rows = True, {}, {}
        try:
            yield
        finally:
            self._on = False

    def take(self) -> torch.Tensor:
        """Float64 [3, experts] of what was seen: squared errors, squared norms, rows. On the CPU."""
        made = torch.zeros((3, len(self._names)), dtype=torch.float64)
        if self._found:
            where = torch.tensor(list(self._found))
            made[:2, where] = torch.stack([torch.stack(pair) for pair in self._found.values()]).T.cpu()
        made[2] = torch.tensor(self.rows(), dtype=torch.float64)
        return made

    def rows(self) -> list[int]:
        """Rows of each expert."""
        return [self._rows.get(number, 0) for number in range(len(self._names))]

    def _see(self, number: int, _: Any, args: Any, output: torch.Tensor) -> None:
        if not self._on or not output.numel():
            return
        with self._checkpoint.going(self._way):
            theirs = self._checkpoint.stepper.modules[self._names[number]](*args)
        self._found[number] = [squared(theirs - output.float()), squared(output)]
        self._rows[number] = output.numel() // output.shape[-1]


def squared(values: torch.Tensor) -> torch.Tensor:
    """The sum of squares, float64."""
    return values.double().square().sum()
