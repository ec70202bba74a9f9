"""What each expert's own quantization costs: both experts on the rows that the source's router sends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from proofcard.errors import Stop
from proofcard.evaluate import routing
from proofcard.evaluate.apart import ROWS, in_blocks
from proofcard.evaluate.compute import Compute, LayerParts, Precision


class ExpertErrors:
    """Sums over the rows of each expert e and text, in the source's run: ‖E'(x) − E(x)‖², ‖E(x)‖², and rows.

    E' is the checkpoint's expert, its inputs rounded to `precision`. Rows of a text are added in their order,
    whatever runs beside it.
    """

    def __init__(
        self, inside: LayerParts, source: Compute, checkpoint: Compute, precision: Precision
    ) -> None:
        self._blocks = inside.blocks
        self._places = [(block, at) for block, experts in inside.blocks.items() for at in range(len(experts))]
        self._source, self._checkpoint, self._precision = source, checkpoint, precision
        self._squares: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._inputs: dict[str, torch.Tensor] = {}
        self._chosen: dict[str, torch.Tensor | None] = {}
        self._texts = 0

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """A context in which the source's experts can be watched."""
        modules = self._source.stepper.modules
        with ExitStack() as stack:
            for block in self._blocks:
                hook = modules[block].register_forward_pre_hook(
                    lambda _, args, block=block: self._inputs.update({block: args[0].flatten(0, -2)})
                )
                stack.callback(hook.remove)
            for number, (block, at) in enumerate(self._places):
                module = modules[self._blocks[block][at]]
                stack.callback(module.register_forward_hook(partial(self._see, number)).remove)
            yield

    @contextmanager
    def watching(self, texts: int) -> Iterator[None]:
        """A context in which the source runs so many texts of one length, and its experts are compared."""
        self._texts, self._squares, self._chosen = texts, {}, {}
        try:
            yield
        finally:
            self._texts = 0

    def take(self) -> np.ndarray:
        """Float64 [3, experts, texts] of the run that is watched: squared errors, squared norms, rows."""
        made = np.zeros((3, len(self._places) * self._texts))
        if self._squares:
            cells = [owner + number * self._texts for number, (_, owner) in self._squares.items()]
            cell = torch.cat(cells).cpu().numpy()
            values = torch.cat([values for values, _ in self._squares.values()], dim=1).cpu().numpy()
            for sums, each in zip(made, [*values, None], strict=True):
                sums[:] = np.bincount(cell, each, minlength=len(sums))
        return made.reshape(3, len(self._places), self._texts)

    def rows(self, block: str) -> list[int]:
        """Rows of each expert of a block."""
        counts = {number: len(owner) for number, (_, owner) in self._squares.items()}
        return [counts.get(number, 0) for number, (name, _) in enumerate(self._places) if name == block]

    def _see(self, number: int, _: Any, args: Any, output: torch.Tensor) -> None:
        if not self._texts or not output.numel():
            return
        block, at = self._places[number]
        with self._checkpoint.running_at(self._precision):
            theirs = self._checkpoint.stepper.modules[self._blocks[block][at]](*args)
        parts = [part.reshape(-1, part.shape[-1]) for part in (theirs - output.float(), output)]
        # On a GPU a sum over channels may add in another order where there are more rows.
        each = _of_rows if self._source.apart is None else partial(in_blocks, _of_rows, ROWS)
        of_rows = torch.stack([each(part) for part in parts])
        owner = self._owners(block, at, args[0].reshape(-1, args[0].shape[-1]))
        self._squares[number] = of_rows, owner

    def _owners(self, block: str, at: int, rows: torch.Tensor) -> torch.Tensor:
        """The text of each row: rows are the block's own, in the order of tokens or of choices."""
        if self._texts == 1:
            return torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        if block not in self._chosen:
            module, answer = self._source.stepper.modules[block], self._source.seen(block)
            choice = routing.chosen(module, answer) if answer is not None else None
            self._chosen[block] = choice[0] if choice is not None else None
        chosen, inputs = self._chosen[block], self._inputs[block]
        if chosen is not None:
            mine = chosen == at
            for tokens in (mine.nonzero()[:, 0], mine.T.nonzero()[:, 1]):
                if len(tokens) == len(rows) and torch.equal(inputs[tokens], rows):
                    return tokens // (len(inputs) // self._texts)
        raise Stop(
            f"how {block} chooses experts is not known here, so texts cannot run together: add "
            "evaluation.together=1, and the run resumes"
        )


def _of_rows(values: torch.Tensor) -> torch.Tensor:
    return values.double().square().sum(dim=-1)


def squared(values: torch.Tensor) -> torch.Tensor:
    """The sum of squares, float64."""
    return values.double().square().sum()
