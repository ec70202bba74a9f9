"""What each expert's own quantization costs: both experts on the very rows that the source's router sends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from proofcard.evaluate import routing
from proofcard.evaluate.compute import Anatomy, Compute, Way


class ExpertErrors:
    """Sums over the rows of each expert e and text, in the source's run: ‖E'(x) − E(x)‖², ‖E(x)‖², and rows.

    E' is the checkpoint's expert, its inputs rounded as `way` says. Where it cannot be told which rows are of
    which text, texts that run together have theirs in the first one's place.
    """

    def __init__(self, inside: Anatomy, source: Compute, checkpoint: Compute, way: Way) -> None:
        self._blocks = inside.blocks
        self._places = [(block, at) for block, experts in inside.blocks.items() for at in range(len(experts))]
        self._source, self._checkpoint, self._way = source, checkpoint, way
        self._found: dict[int, torch.Tensor] = {}
        self._rows: dict[int, int] = {}
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
        self._texts, self._found, self._rows, self._chosen = texts, {}, {}, {}
        try:
            yield
        finally:
            self._texts = 0

    def take(self) -> torch.Tensor:
        """Float64 [3, experts, texts] of what was seen: squared errors, squared norms, rows. On the CPU."""
        texts = next((found.shape[1] for found in self._found.values()), 1)
        made = torch.zeros((3, len(self._places), texts), dtype=torch.float64)
        if self._found:
            made[:, list(self._found)] = torch.stack(list(self._found.values()), dim=1).cpu()
        return made

    def rows(self, block: str) -> list[int]:
        """Rows of each expert of a block."""
        return [self._rows.get(number, 0) for number, (name, _) in enumerate(self._places) if name == block]

    def _see(self, number: int, _: Any, args: Any, output: torch.Tensor) -> None:
        if not self._texts or not output.numel():
            return
        block, at = self._places[number]
        with self._checkpoint.going(self._way):
            theirs = self._checkpoint.stepper.modules[self._blocks[block][at]](*args)
        parts = [theirs - output.float(), output]
        of_rows = [part.reshape(-1, part.shape[-1]).double().square().sum(dim=-1) for part in parts]
        of_rows.append(torch.ones_like(of_rows[0]))
        owner = self._owners(block, at, args[0].reshape(-1, args[0].shape[-1]))
        made = torch.zeros((3, self._texts), dtype=torch.float64, device=output.device)
        # Of each text in the order of its rows: the same sums whatever runs beside it.
        self._found[number] = made.index_add_(1, owner, torch.stack(of_rows))
        self._rows[number] = len(owner)

    def _owners(self, block: str, at: int, rows: torch.Tensor) -> torch.Tensor:
        """The text of each row: rows are the block's own, in the order of tokens or of choices."""
        nobody = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        if self._texts == 1:
            return nobody
        if block not in self._chosen:
            module, answer = self._source.stepper.modules[block], self._source.seen(block)
            found = routing.chosen(module, answer) if answer is not None else None
            self._chosen[block] = found[0] if found is not None else None
        chosen, inputs = self._chosen[block], self._inputs[block]
        if chosen is None:
            return nobody
        mine = chosen == at
        for tokens in (mine.nonzero()[:, 0], mine.T.nonzero()[:, 1]):
            if len(tokens) == len(rows) and torch.equal(inputs[tokens], rows):
                return tokens // (len(inputs) // self._texts)
        return nobody


def squared(values: torch.Tensor) -> torch.Tensor:
    """The sum of squares, float64."""
    return values.double().square().sum()
