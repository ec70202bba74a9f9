"""The routed pass of a block of experts without the model's own loop over them.

Models look for each expert's tokens in turn: on a GPU every search waits for its result, and every sum is
sorted for itself. Here the tokens of all experts are sorted once. Which token goes where and with which
weight is still decided by the model's own code, which runs with its searches answered by "none"; the experts
are the model's own modules, called with the same rows in the same order; and a token's weighted outputs are
added one by one, expert by expert, every sum rounded as the model rounds it.

A block whose way is not plain from a recorded call (`ways`), or whose output would differ in a bit there,
keeps its own loop; so does a call that does not go like the recorded one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from proofcard.calibration.batches import Batch
from proofcard.quantize.layerwise.crew import Crew
from proofcard.quantize.layerwise.gated import Gated, Together, gated, parts
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.hooks import answered, watching
from proofcard.quantize.layerwise.raised import Raised
from proofcard.quantize.layerwise.replay import Ended, OtherWay, Replay
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Block, Layer
from proofcard.quantize.layerwise.ways import Ending, Recording, Way

_TOKENS = 256  # of the recorded call

Tensor = torch.Tensor


@dataclass(frozen=True)
class Watch:
    """What calls tell that no hook sees: `rows` counts what each expert has taken, by its name; `note_all`
    gets names of linears and the largest magnitude of each one's input, 0 without any."""

    rows: dict[str, int]
    note_all: Callable[[tuple[str, ...], Tensor], None]


class Routed:
    """One block. `learning` records a call; `taking_over` then replaces the loop, where that is exact."""

    def __init__(self, block: Block, modules: dict[str, Any], crew: Crew) -> None:
        self.way: Way | None = None
        self.ending: Ending | None = None
        self.gated: Gated | None = None
        self.raised: Raised | None = None
        self._block, self._names, self._crew = modules[block.name], block.experts, crew
        self._experts = [modules[name] for name in block.experts]
        self._together: Together | None = None
        self._linears: dict[str, tuple[str, ...]] = {}

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Record the block's calls; the way of one is kept if it gives the same output."""
        own = self._block.forward

        def forward(*args: Any, **named: Any) -> Any:
            with Recording(self._experts) as recording:
                output = own(*args, **named)
            self.way = recording.way(_tokens(args, named))
            self.gated = gated(self._experts, recording.calls) if recording.plain else None
            if self.gated is not None:
                self._together = Together(self.gated, self._experts, self._crew)
                linears = (self.gated.gate, self.gated.up, self.gated.down)
                self._linears = {part: tuple(f"{name}.{part}" for name in self._names) for part in linears}
            if self.way is not None:
                self.ending = recording.ending(self.way, output, _states(args, named))
                if self.ending is not None and not self._repeats(own, args, named, output):
                    self.ending = None
                if self.ending is None and not self._repeats(own, args, named, output):
                    self.way = None
            return output

        with answered({self._block: forward}):
            yield

    def _repeats(self, own: Callable[..., Any], args: Any, named: Any, output: Any) -> bool:
        again = self._replayed(own, args, named, None) if self.way is not None else None
        return again is not None and _alike(output, again[0])

    @contextmanager
    def taking_over(self, watch: Watch) -> Iterator[None]:
        """Let the block's calls skip its loop, if its way is known."""
        own = self._block.forward
        if self.way is None:
            yield
            return
        with answered({self._block: lambda *args, **named: self._run(own, args, named, watch)}):
            yield

    def _run(self, own: Callable[..., Any], args: Any, named: Any, watch: Watch) -> Any:
        before = {name: watch.rows[name] for name in self._names}
        output = self._replayed(own, args, named, watch)
        if output is None:
            watch.rows.update(before)  # hooks may have counted some
            return own(*args, **named)
        return output[0]

    def _replayed(
        self, own: Callable[..., Any], args: Any, named: Any, watch: Watch | None
    ) -> tuple[Any] | None:
        """The output of a call without the loop; None if it does not go like the recorded one."""
        assert self.way is not None
        tokens = _tokens(args, named)
        replay = Replay(self.way, self.ending, lambda *found: self._add_up(watch, tokens, *found))
        try:
            with replay:
                output = own(*args, **named)
        except Ended:
            return (replay.output(_states(args, named).shape),)
        except OtherWay:
            return None
        except torch.OutOfMemoryError:
            self.way = None  # the loop needs less memory
            return None
        return (output,) if replay.done else None

    def _add_up(
        self, watch: Watch | None, tokens: Tensor, chosen: Tensor, weights: Tensor, total: Tensor
    ) -> None:
        """Add each expert's weighted output for `tokens` [tokens, width] to `total`, which has their shape.

        Raises:
            OtherWay: when the shapes are not those of the way, or a token has an expert twice.
        """
        way, count = self.way, len(tokens)
        assert way is not None
        slots = way.slots
        if chosen.shape != (count, slots) or weights.shape != chosen.shape or len(total) != count:
            raise OtherWay
        flat = (chosen.t() if way.by_slot else chosen).reshape(-1)
        sorted_experts, order = flat.sort(stable=True)
        ascending, by_expert = chosen.sort(dim=1)
        twice = (ascending[:, 1:] == ascending[:, :-1]).any()  # what the model adds at once is rounded once
        numbers = torch.arange(len(self._experts), device=flat.device)
        ends = torch.searchsorted(sorted_experts, numbers, right=True)
        *bounds, again = torch.cat([ends, twice[None].long()]).tolist()
        if again or bounds[-1] != len(flat):
            raise OtherWay
        sizes = np.diff(bounds, prepend=0).tolist()
        rows = order % count if way.by_slot else order // slots
        outputs, inner = self._outputs(tokens, rows, sizes)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        place = place.view(slots, count).t() if way.by_slot else place.view(count, slots)
        add_weighted(total, outputs, place.gather(1, by_expert), weights.gather(1, by_expert))
        if watch is not None and inner is not None:
            self._tell(watch, sizes, _largest(_magnitudes(tokens)[rows], sizes), inner)

    def _outputs(self, tokens: Tensor, rows: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor | None]:
        """Each expert's outputs [rows, width] for its `rows` of `tokens`, `sizes` of them, in order.

        And where experts are called without their modules, the largest magnitude of what goes into each one's
        last product [experts], 0 without any.
        """
        if self._together is not None:
            outputs, inner = self._together(tokens[rows], sizes)
            return outputs, _largest(_magnitudes(inner), sizes)
        inputs = parts(tokens[rows], sizes)
        busy = [number for number, size in enumerate(sizes) if size]
        return torch.cat(self._crew.run([partial(self._experts[n], inputs[n]) for n in busy])), None

    def _tell(self, watch: Watch, sizes: list[int], outer: Tensor, inner: Tensor) -> None:
        one = self.gated
        assert one is not None
        for name, size in zip(self._names, sizes, strict=True):
            watch.rows[name] += size
        for linear, values in ((one.gate, outer), (one.up, outer), (one.down, inner)):
            watch.note_all(self._linears[linear], values)


def add_weighted(total: Tensor, outputs: Tensor, place: Tensor, weights: Tensor) -> None:
    """Add weighted rows of `outputs`, those at `place`, to `total`, slot after slot, each sum rounded.

    `total` [tokens, width], `outputs` [rows, width], `place` and `weights` [tokens, slots].
    """
    if total.is_cuda and total.is_contiguous() and outputs.dtype == torch.bfloat16:
        from proofcard.quantize.layerwise import adding_kernel

        adding_kernel.add(total, outputs, place, weights)
        return
    for slot in range(place.shape[1]):
        part = outputs[place[:, slot]] * weights[:, slot, None]
        total.add_(part.to(total.dtype))


def _magnitudes(rows: Tensor) -> Tensor:
    """The largest magnitude of each of `rows` [rows, width], float32."""
    low, high = torch.aminmax(rows, dim=1)
    return torch.maximum(-low, high).float()


def _largest(magnitudes: Tensor, sizes: list[int]) -> Tensor:
    """The largest of each expert's `magnitudes` [rows], `sizes` of them, 0 without any [experts]."""
    lengths = torch.tensor(sizes, device=magnitudes.device)
    return torch.segment_reduce(magnitudes, "max", lengths=lengths, unsafe=True, initial=0)


def learned(
    stepper: Stepper, crew: Crew, layer: Layer, index: int, hidden: Hidden, first: Batch, forced: bool
) -> list[Routed]:
    """The loaded layer's blocks, from a call with up to 256 tokens of the first batch, no padding.

    `forced` learns how they deal rows when all experts are selected, too.
    """
    routed = [Routed(block, stepper.modules, crew) for block in layer.blocks]
    if routed:
        real = np.flatnonzero(first.attention_mask[0])
        some = real[:_TOKENS] if real.size else np.arange(1)
        states = hidden.read(index, 0)[:1, torch.from_numpy(some)] if index else None
        ids = first.input_ids[:1, some]
        inputs: dict[str, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(
                watching(stepper.modules, [block.name for block in layer.blocks], inputs.__setitem__)
            )
            for one in routed:
                stack.enter_context(one.learning())
            stepper.run(states, Batch(ids, np.ones_like(ids)), attention_mask=False)
        for one, block in zip(routed, layer.blocks, strict=True):
            if forced and one.way is not None:
                one.raised = Raised(block, stepper.modules, one.gated is not None)
                one.raised.learn(inputs[block.name])
    return routed


@contextmanager
def taking_over(blocks: list[Routed], watch: Watch) -> Iterator[None]:
    """Let the blocks' calls skip their loops."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block.taking_over(watch))
        yield


def _states(args: Any, named: dict[str, Any]) -> Tensor:
    """A block's input [..., width]."""
    states: Tensor = args[0] if args else named["hidden_states"]
    return states


def _tokens(args: Any, named: dict[str, Any]) -> Tensor:
    """A block's input as [tokens, width]."""
    states = _states(args, named)
    return states.reshape(-1, states.shape[-1])


def _alike(one: Any, other: Any) -> bool:
    """Whether a block's outputs are the same to the last bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.contiguous(), other.contiguous()
        same = (one.dtype, one.shape) == (other.dtype, other.shape)
        return same and torch.equal(one.view(torch.uint8), other.view(torch.uint8))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one is None and other is None
