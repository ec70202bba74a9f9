"""Calibration of experts on tokens that the router does not send them: the forced pass.

ModelOpt raises the block's `top_k` to all experts for one more forward pass and discards its output. Where
the block passes each expert exactly the rows that it was given, in order, calling the experts one by one
yields the same statistics without sorting, weighting or summing; the first batch shows whether it does. An
expert's last product affects no statistic there and is skipped.
"""

from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from proofcard.errors import Stop
from proofcard.quantize.layerwise.probe import Probe
from proofcard.quantize.layerwise.stacked import Stack, stacks
from proofcard.quantize.layerwise.structure import Block


class Forced:
    """The forced pass of one block. `whole` names the linears that take their expert's own input."""

    def __init__(self, block: Block, modules: dict[str, Any], probe: Probe) -> None:
        self.block = block
        self.whole = probe.whole(block)
        self._modules = modules
        self._last = probe.last(block)
        self._direct: bool | None = None
        self._stacks: list[tuple[list[str], Stack]] | None = None

    def run(self, states: torch.Tensor, experts: tuple[str, ...]) -> None:
        """Run every row of `states`, the block's input, through `experts`."""
        with self._without_last():
            if self._direct is None:
                self._direct = self._through_block(states)
            elif self._direct:
                self._one_by_one(states.reshape(-1, states.shape[-1]), set(experts))
            else:
                self._through_block(states)

    def _one_by_one(self, rows: torch.Tensor, experts: Set[str]) -> None:
        """Call the experts directly, with the first products of a group merged where that is exact."""
        if self._stacks is None:
            self._stacks = stacks(self.block.experts, self.whole, self._modules)
        left = dict.fromkeys(name for name in self.block.experts if name in experts)
        for group, stack in self._stacks:
            if left.keys() >= set(group) and stack.serves(rows):
                with stack.answering(rows):
                    for name in group:
                        self._modules[name](rows)
                        del left[name]
        for name in left:
            self._modules[name](rows)

    def _through_block(self, states: torch.Tensor) -> bool:
        """One forward pass that selects every expert; returns whether each got all rows once, in order."""
        rows = states.reshape(-1, states.shape[-1])
        same: dict[str, bool] = {}

        def look(name: str, args: Any) -> None:
            same[name] = name not in same and len(args) == 1 and torch.equal(args[0], rows)

        owner = self._modules[self.block.top_k_owner]
        natural = owner.top_k
        with ExitStack() as stack:
            for name in self.block.experts:
                hook = self._modules[name].register_forward_pre_hook(
                    lambda _, args, name=name: look(name, args)
                )
                stack.callback(hook.remove)
            owner.top_k = len(self.block.experts)
            try:
                self._modules[self.block.name](states)
            finally:
                owner.top_k = natural
        if same.keys() != set(self.block.experts):
            raise Stop(
                f"{self.block.name} does not call all its experts with top_k raised: use coverage=natural"
            )
        return all(same.values())

    @contextmanager
    def _without_last(self) -> Iterator[None]:
        chosen = [self._modules[name] for name in self._last]
        for linear in chosen:
            linear.forward = _Nothing(linear.out_features)
        try:
            yield
        finally:
            for linear in chosen:
                del linear.forward


class _Nothing:
    """Replaces a product whose result is unused by zeros of its shape that take no memory."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.new_zeros(()).expand(*rows.shape[:-1], self._width)
