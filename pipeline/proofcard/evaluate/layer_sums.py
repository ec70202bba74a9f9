"""Sums of one layer over the texts, each text by itself, from every stream that goes through it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from proofcard.calibration.batches import Batch
from proofcard.evaluate import divergence, routing
from proofcard.evaluate.compute import Answer, Compute, LayerParts
from proofcard.evaluate.experts import ExpertErrors, squared
from proofcard.evaluate.streams import Stream

Arrays = dict[str, NDArray[np.float64]]


def starts(texts: Sequence[Batch]) -> NDArray[np.int64]:
    """Where the positions of each text begin, and the end: a position has a token after it."""
    return np.cumsum([0, *(text.input_ids.size - 1 for text in texts)])


class LayerSums:
    """The sums of a layer that is loaded in both computes.

    `sums` have the axis of texts last: `error` [streams − 1, texts] ‖h' − h‖² of each stream's output h',
    `norm` [texts] ‖h‖² of the source's, `local` [texts] ‖h' − h‖² where the last candidate's layer gets
    the source's input; `experts` [3, experts, texts] as `ExpertErrors`; `overlap` and `moved`
    [candidates, blocks, texts] as `routing.difference`, NaN where it is not known how a block chooses.
    `values` [streams − 1, FIELDS, positions] are of the last layer alone.
    """

    def __init__(
        self,
        source: Compute,
        checkpoint: Compute,
        streams: Sequence[Stream],
        texts: Sequence[Batch],
        inside: LayerParts,
        last: bool,
    ) -> None:
        """All is zero until texts are added; what other ranks add stays zero here."""
        self._source, self._checkpoint, self._streams = source, checkpoint, streams
        self._texts, self._inside, self._starts = texts, inside, starts(texts)
        candidates = [stream for stream in streams if stream.checkpoint and stream.routes_of is None]
        self._precision = candidates[-1].precision
        self._experts = ExpertErrors(inside, source, checkpoint, self._precision)
        others, count, blocks = len(streams) - 1, len(texts), len(inside.blocks)
        self.sums: Arrays = {
            "error": np.zeros((others, count)),
            "norm": np.zeros(count),
            "local": np.zeros(count),
            "experts": np.zeros((3, sum(map(len, inside.blocks.values())), count)),
            "overlap": np.zeros((len(candidates), blocks, count)),
            "moved": np.zeros((len(candidates), blocks, count)),
        }
        positions = (others, len(divergence.FIELDS), int(self._starts[-1]))
        self.values = np.zeros(positions) if last else None

    @contextmanager
    def hooked(self, linears: list[str]) -> Iterator[None]:
        """A context in which texts can be added; `linears` are the layer's quantized ones."""
        rounded = linears if any(stream.precision.activations for stream in self._streams) else []
        caches = any(stream.precision.kv for stream in self._streams)
        with ExitStack() as stack:
            stack.enter_context(self._source.hooked(self._inside, []))
            stack.enter_context(self._checkpoint.hooked(self._inside, rounded, caches))
            stack.enter_context(self._experts.hooked())
            yield

    def add(self, numbers: list[int], states: list[torch.Tensor | None]) -> list[torch.Tensor]:
        """Texts of one length through the layer: outputs of all streams from their `states`.

        Both [texts, tokens, width]; None where the layer is the first.
        """
        ids = np.concatenate([self._texts[number].input_ids for number in numbers])
        batch = Batch(ids, np.ones_like(ids))
        answers: dict[str, Answer] = {}
        outputs: list[torch.Tensor] = []
        last = self.values is not None
        with self._experts.watching(len(numbers)):
            first = self._streams[0]
            reference = self._source.run(states[0], batch, first.precision, to_logits=last)
            self.sums["experts"][:, :, numbers] = self._experts.take()
        local = self._checkpoint.run(states[0], batch, self._precision).output
        for place, stream in enumerate(self._streams):
            if place == 0:
                answer = reference
                self._squared("norm", (), numbers, reference.output)
                self._squared("local", (), numbers, local - reference.output.float())
            else:
                routes = answers[stream.routes_of].routes if stream.routes_of else None
                compute = self._checkpoint if stream.checkpoint else self._source
                answer = compute.run(states[place], batch, stream.precision, routes, to_logits=last)
                self._squared("error", (place - 1,), numbers, answer.output - reference.output.float())
                if routes is None:
                    self._routes(place - 1, numbers, reference, answer)
                self._positions(place - 1, numbers, reference, answer)
            outputs.append(answer.output)
            answers[stream.name] = Answer(answer.output, answer.routes)  # its logits have been looked at
        return outputs

    def _squared(self, name: str, place: tuple[int, ...], numbers: list[int], values: torch.Tensor) -> None:
        for number, mine in zip(numbers, values, strict=True):
            self.sums[name][(*place, number)] = float(squared(mine))

    def _routes(self, place: int, numbers: list[int], ours: Answer, theirs: Answer) -> None:
        """Each text by itself: a softmax of more rows may round otherwise."""
        for at, (name, experts) in enumerate(self._inside.blocks.items()):
            block = self._source.stepper.modules[name]
            pairs = [
                (routing.chosen(block, own), routing.chosen(block, other))
                for own, other in zip(
                    *(routing.by_text(each.routes[name], len(numbers)) for each in (ours, theirs)),
                    strict=True,
                )
            ]
            known = [own[0] for own, other in pairs if own is not None and other is not None]
            sure = len(known) == len(numbers) and routing.agrees(torch.cat(known), self._experts.rows(name))
            for number, (one, another) in zip(numbers, pairs, strict=True):
                both = moved = torch.tensor(float("nan"))
                if sure and one is not None and another is not None:
                    both, moved = routing.difference(one, another, len(experts))
                self.sums["overlap"][place, at, number] = float(both.sum())
                self.sums["moved"][place, at, number] = float(moved.sum())

    def _positions(self, place: int, numbers: list[int], ours: Answer, theirs: Answer) -> None:
        if self.values is None:
            return
        assert ours.logits is not None and theirs.logits is not None
        pairs = (each.view(len(numbers), -1, each.shape[-1]) for each in (ours.logits, theirs.logits))
        for number, own, other in zip(numbers, *pairs, strict=True):
            targets = torch.from_numpy(self._texts[number].input_ids[0, 1:]).to(own.device)
            positions = divergence.between(own[:-1], other[:-1], targets).stacked().numpy()
            self.values[place, :, self._starts[number] : self._starts[number + 1]] = positions
