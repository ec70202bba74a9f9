"""Calibration of experts on tokens that the router does not send them: the forced pass.

ModelOpt raises the block's `top_k` to all experts for one more forward pass and discards its output. Where
the block passes each expert exactly the rows that it was given, calling the experts one by one yields the
same statistics without sorting, weighting or summing: in the same order, or in another where that changes no
bit. `Raised` tells, or else the first batch. An expert's last product affects no statistic there and is
skipped.
"""

from collections.abc import Iterator, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Protocol

import torch

from proofcard.errors import Stop
from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.hooks import answered
from proofcard.quantize.layerwise.probe import Probe
from proofcard.quantize.layerwise.raised import Raised, selecting_all
from proofcard.quantize.layerwise.screen import Screen
from proofcard.quantize.layerwise.screen_answer import Question
from proofcard.quantize.layerwise.stacked import Stack, stacks
from proofcard.quantize.layerwise.structure import Block


class Recorder(Protocol):
    """Records the inputs of linears."""

    def see(self, name: str, values: torch.Tensor) -> None:
        """Record an input of a linear."""

    def largest(self, names: tuple[str, ...]) -> torch.Tensor | None:
        """What no new input of each linear needs to be recorded below, float32; None if nothing is known."""


class Forced:
    """The forced pass of one block. `whole` names the linears that take their expert's own input.

    With `screened`, most rows of most batches are left out where that changes no statistic (`screen`).
    """

    def __init__(
        self,
        block: Block,
        modules: dict[str, Any],
        probe: Probe,
        excerpts: Excerpts,
        raised: Raised | None = None,
        screened: bool = False,
    ) -> None:
        self.block = block
        self.whole = probe.whole(block)
        self._modules, self._excerpts, self._raised = modules, excerpts, raised
        self._last = probe.last(block)
        self._direct: bool | None = None
        self._stacks: list[tuple[list[str], Stack]] | None = None
        self._screen = None
        if screened:
            self._screen = Screen(block.experts, self.whole, self._last, modules, excerpts)
        self._asked: tuple[Question, Recorder] | None = None

    def run(self, states: torch.Tensor, experts: tuple[str, ...], recorder: Recorder | None = None) -> None:
        """Run every row of `states`, the block's input, through `experts`.

        With a screen, what the rows add to `recorder` is complete only after the next call, or `drain`.
        """
        rows = states.reshape(-1, states.shape[-1])
        with self._without_last():
            if self._direct is None and self._raised is not None:
                self._direct = self._raised.gives_all(states) or None
            if self._direct is None:
                self._raised = None
                with self._looking(rows):
                    self._direct = self._through_block(states)
            elif not self._direct or not self._in_any_order(rows):
                self._through_block(states)
            elif self._screen is not None and self._screen.unseen(rows):
                with self._looking(rows):
                    self._one_by_one(rows, set(self.block.experts))
            elif recorder is None or not self._left_out(rows, experts, recorder):
                self._one_by_one(rows, set(experts))

    def _looking(self, rows: torch.Tensor) -> AbstractContextManager[None]:
        return nullcontext() if self._screen is None else self._screen.looking(rows)

    def _in_any_order(self, rows: torch.Tensor) -> bool:
        """Whether experts give these rows the bits that they have in the block's own order."""
        if self._raised is None:
            return True
        weight = self._modules[next(iter(sorted(self.whole)))].weight
        return self._raised.allows(rows, weight, self._excerpts)

    def drain(self) -> None:
        """Complete what the earlier calls recorded: before it is taken, while it is still recorded."""
        if self._asked is not None:
            with self._without_last():
                self._settle()

    def _left_out(self, rows: torch.Tensor, experts: tuple[str, ...], recorder: Recorder) -> bool:
        """Ask the screen about a batch; whether its exact products can wait until there is an answer."""
        screen = self._screen
        if screen is None or not screen.serves(rows, experts):
            self._settle()
            return False
        largest = recorder.largest(screen.inputs(experts))
        asked = None
        if largest is None:
            screen.fresh()
        elif not screen.paused():
            self._stack()  # moves the weights that the screen has the addresses of
            asked = screen.ask(rows, experts, largest)
        self._settle()  # only now: the device has the next batch to work on
        if asked is None:
            return False
        self._asked = asked, recorder
        for name in screen.whole(experts):
            recorder.see(name, rows)
        return True

    def _settle(self) -> None:
        """Run what the last batch may have raised the maximum of."""
        if self._asked is None:
            return
        (asked, recorder), self._asked = self._asked, None
        assert self._screen is not None
        suspects = asked.suspects()
        self._screen.judge(suspects.share)
        self._one_by_one(asked.rows, suspects.whole)
        for name, picked in suspects.rows.items():
            self._modules[name](asked.rows.index_select(0, picked))
        for name, neurons in suspects.neurons.items():
            (last,) = self._screen.inputs([name])
            recorder.see(last, self._screen.inner(name, asked.rows, neurons))

    def _one_by_one(self, rows: torch.Tensor, experts: Set[str]) -> None:
        """Call the experts directly, with the first products of a group merged where that is exact."""
        left = dict.fromkeys(name for name in self.block.experts if name in experts)
        for group, stack in self._stack():
            if left.keys() >= set(group) and stack.serves(rows):
                with stack.answering(rows):
                    for name in group:
                        self._modules[name](rows)
                        del left[name]
        for name in left:
            self._modules[name](rows)

    def _stack(self) -> list[tuple[list[str], Stack]]:
        if self._stacks is None:
            self._stacks = stacks(self.block.experts, self.whole, self._modules)
        return self._stacks

    def _through_block(self, states: torch.Tensor) -> bool:
        """One forward pass that selects every expert; returns whether each got all rows once, in order."""
        rows = states.reshape(-1, states.shape[-1])
        same: dict[str, bool] = {}

        def look(name: str, args: Any) -> None:
            same[name] = name not in same and len(args) == 1 and torch.equal(args[0], rows)

        with ExitStack() as stack:
            for name in self.block.experts:
                hook = self._modules[name].register_forward_pre_hook(
                    lambda _, args, name=name: look(name, args)
                )
                stack.callback(hook.remove)
            stack.enter_context(selecting_all(self.block, self._modules))
            self._modules[self.block.name](states)
        if same.keys() != set(self.block.experts):
            raise Stop(
                f"{self.block.name} does not call all its experts with top_k raised: use coverage=natural"
            )
        return all(same.values())

    @contextmanager
    def _without_last(self) -> Iterator[None]:
        chosen = [self._modules[name] for name in self._last]
        with answered({linear: _Nothing(linear.out_features) for linear in chosen}):
            yield


class _Nothing:
    """Replaces a product whose result is unused by zeros of its shape that take no memory."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.new_zeros(()).expand(*rows.shape[:-1], self._width)
