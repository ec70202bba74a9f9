"""One pass over the layers: each is read once from source and checkpoint, and every stream goes through it.

Each text runs alone, without padding: no number can depend on a batch. Ranks share the texts out; what
each has found of its texts is put together without adding anything up, so no number depends on how many
ranks there are.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proofcard.calibration.batches import Batch
from proofcard.errors import Stop
from proofcard.evaluate import divergence, routing
from proofcard.evaluate.compute import Anatomy, Answer, Compute, anatomy
from proofcard.evaluate.experts import ExpertErrors, squared
from proofcard.evaluate.streams import Stream
from proofcard.evaluate.weights import Checkpoint
from proofcard.progress import Layers
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.resume import Records
from proofcard.ranks import Ranks

Arrays = dict[str, NDArray[np.float64]]
POSITIONS = "positions.npy"


class Pass:
    """Texts through the layers. `folder` keeps what a later run needs to go on."""

    def __init__(
        self,
        source: Compute,
        checkpoint: Compute,
        stored: Checkpoint,
        streams: list[Stream],
        texts: list[Batch],
        folder: Path,
        width: tuple[int, torch.dtype],
        memory: int,
        ranks: Ranks,
    ) -> None:
        """`width` are channels and dtype of hidden states, of which `memory` bytes may stay in memory."""
        self._source, self._checkpoint, self._stored = source, checkpoint, stored
        self._streams, self._texts, self._folder, self._ranks = streams, texts, folder, ranks
        shapes = [tuple(text.input_ids.shape) for text in texts]
        self._hidden = []
        for number in range(len(streams)):
            place = folder / f"stream-{number}"
            if ranks.leads:
                place.mkdir(exist_ok=True)
            self._hidden.append(Hidden(place, shapes, *width, memory // len(streams)))
        lengths = [text.input_ids.size - 1 for text in texts]
        self._starts = np.cumsum([0, *lengths])
        self._records = Records(folder, ranks)

    def run(self, report: Callable[[int, Arrays], None]) -> tuple[list[Arrays], NDArray[np.float64]]:
        """Every layer's sums, and values of all positions [streams − 1, FIELDS, positions].

        Sums end in the axis of texts: see `_layer`.

        Raises:
            Stop: when a layer gives what is not finite, or files of complete layers are missing.
        """
        total = self._source.stepper.layers
        done = [_arrays(record) for record in self._records.read(total)]
        for index, sums in enumerate(done):
            report(index, sums)
        self._take_room(len(done), total)
        with Layers(total, len(done), self._ranks.leads) as bars, ThreadPoolExecutor(1) as ahead:
            coming = self._coming(ahead, len(done), total)
            for index in range(len(done), total):
                bars.begin(len(self._ranks.share(len(self._texts))))
                self._load(index, *coming())
                coming = self._coming(ahead, index + 1, total)
                sums = self._layer(index, index == total - 1, bars)
                self._complete(index, sums)
                done.append(sums)
                report(index, sums)
                bars.end()
        return done, np.load(self._folder / POSITIONS, allow_pickle=False)

    def _take_room(self, done: int, total: int) -> None:
        if self._ranks.leads:
            there = (self._folder / POSITIONS).exists() if done == total else True
            if done and not (there and (done == total or all(h.holds(done) for h in self._hidden))):
                raise Stop(f"files of complete layers are missing: remove {self._folder} to start over")
            if done < total:
                for hidden in self._hidden:
                    hidden.allocate()
        self._ranks.wait()

    def _coming(self, ahead: ThreadPoolExecutor, index: int, total: int) -> Callable[[], Any]:
        """How to get a layer's weights: read from now on behind the work of a GPU, or when asked for."""

        def read() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
            return self._source.stepper.read(index), self._checkpoint.stepper.read(index)

        if self._source.stepper.device.type == "cuda" and index < total:
            return ahead.submit(read).result
        return read

    def _load(self, index: int, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
        """Both sets of weights; what is the same in both is kept once."""
        for name, weight in theirs.items():
            own = ours.get(name)
            if own is not None and not self._stored.is_packed(name) and own.dtype == weight.dtype:
                theirs[name] = own if torch.equal(own, weight) else weight
        self._source.stepper.load(index, ours)
        self._checkpoint.stepper.load(index, theirs)
        if index == self._source.stepper.layers - 1:
            self._source.stepper.load_head()
            self._checkpoint.stepper.load_head()

    def _layer(self, index: int, last: bool, bars: Layers) -> Arrays:
        """Sums of one layer, each with the axis of texts last.

        `error` [streams − 1, texts] ‖h' − h‖² of each stream's output h', `norm` [texts] ‖h‖² of the
        source's, `local` [texts] ‖h' − h‖² where the last candidate's layer gets the source's input;
        `experts` [3, experts, texts] as `ExpertErrors`; `overlap` and `moved` [streams − 1, blocks,
        texts] as `routing.difference`, NaN where it is not known how a block chooses.
        """
        name = f"{self._source.stepper.prefix}.{index}"
        inside = anatomy(self._source.stepper.modules, name)
        linears = [linear for linear in self._stored.linears() if linear.startswith(name + ".")]
        others, texts, blocks = len(self._streams) - 1, len(self._texts), len(inside.blocks)
        count = sum(map(len, inside.blocks.values()))
        candidates = sum(stream.checkpoint and stream.routes_of is None for stream in self._streams)
        sums: Arrays = {
            "error": np.zeros((others, texts)),
            "norm": np.zeros(texts),
            "local": np.zeros(texts),
            "experts": np.zeros((3, count, texts)),
            "overlap": np.zeros((candidates, blocks, texts)),
            "moved": np.zeros((candidates, blocks, texts)),
        }
        values = np.zeros((others, len(divergence.FIELDS), self._starts[-1])) if last else None
        way = self._streams[self._last].way
        experts = ExpertErrors(inside, self._source, self._checkpoint, way)
        rounded = linears if any(stream.way.activations for stream in self._streams) else []
        with ExitStack() as stack, torch.no_grad():
            stack.enter_context(self._source.hooked(inside, []))
            stack.enter_context(self._checkpoint.hooked(inside, rounded, self._caches))
            stack.enter_context(experts.hooked())
            for number in self._ranks.share(texts):
                self._text(index, number, inside, experts, sums, values)
                bars.advance(self._texts[number].input_ids.size)
        for array in sums.values():
            self._together(array)
        if values is not None:
            self._together(values)
            self._check_finite(index, sums)
            self._check_logits(values)
            if self._ranks.leads:
                np.save(self._folder / POSITIONS, values, allow_pickle=False)
        self._check_finite(index, sums)
        return sums

    @property
    def _last(self) -> int:
        """The number of the last candidate's stream."""
        return max(n for n, s in enumerate(self._streams) if s.checkpoint and s.routes_of is None)

    @property
    def _caches(self) -> bool:
        """Whether any stream rounds the KV cache."""
        return any(stream.way.kv for stream in self._streams)

    def _text(
        self,
        index: int,
        number: int,
        inside: Anatomy,
        experts: ExpertErrors,
        sums: Arrays,
        values: NDArray[np.float64] | None,
    ) -> None:
        """One text through the layer, in every stream."""
        text, last = self._texts[number], values is not None
        answers: dict[str, Answer] = {}
        reference: Answer | None = None
        for place, stream in enumerate(self._streams):
            states = self._hidden[place].read(index, number) if index else None
            routes = answers[stream.routes_of].routes if stream.routes_of else None
            compute = self._checkpoint if stream.checkpoint else self._source
            if reference is None:
                with experts.watching():
                    reference = compute.run(states, text, stream.way, to_logits=last)
                sums["experts"][:, :, number] = experts.take().numpy()
                sums["norm"][number] = float(squared(reference.output))
                local = self._checkpoint.run(states, text, self._streams[self._last].way)
                sums["local"][number] = float(squared(local.output - reference.output.float()))
                answer = reference
            else:
                answer = compute.run(states, text, stream.way, routes, to_logits=last)
                sums["error"][place - 1, number] = float(squared(answer.output - reference.output.float()))
                if routes is None:
                    self._routes(place - 1, number, inside, experts.rows(), reference, answer, sums)
                if values is not None:
                    self._values(place - 1, number, reference, answer, values)
            if not last:
                self._hidden[place].write(index + 1, number, answer.output)
            answers[stream.name] = Answer(answer.output, answer.routes)  # its logits have been looked at

    def _routes(
        self,
        place: int,
        number: int,
        inside: Anatomy,
        rows: list[int],
        ours: Answer,
        theirs: Answer,
        sums: Arrays,
    ) -> None:
        first = 0
        for at, (name, experts) in enumerate(inside.blocks.items()):
            block = self._source.stepper.modules[name]
            pair = [routing.chosen(block, answer.routes[name]) for answer in (ours, theirs)]
            own = rows[first : first + len(experts)]
            first += len(experts)
            both = moved = torch.tensor([float("nan")])
            if pair[0] is not None and pair[1] is not None and routing.agrees(pair[0][0], own):
                both, moved = routing.difference(pair[0], pair[1], len(experts))
            sums["overlap"][place, at, number] = float(both.sum())
            sums["moved"][place, at, number] = float(moved.sum())

    def _values(
        self, place: int, number: int, ours: Answer, theirs: Answer, values: NDArray[np.float64]
    ) -> None:
        assert ours.logits is not None and theirs.logits is not None
        targets = torch.from_numpy(self._texts[number].input_ids[0, 1:]).to(ours.logits.device)
        found = divergence.between(ours.logits[:-1], theirs.logits[:-1], targets)
        values[place, :, self._starts[number] : self._starts[number + 1]] = found.stacked().numpy()

    def _together(self, array: NDArray[np.float64]) -> None:
        """Every rank has written its own places, zero bits elsewhere: the sum of the bits has them all."""
        self._ranks.total(torch.from_numpy(array.view(np.int64)))

    def _check_finite(self, index: int, sums: Arrays) -> None:
        rows = [("source", sums["norm"])]
        rows += [(s.name, e) for s, e in zip(self._streams[1:], sums["error"], strict=True)]
        for name, row in rows:
            if not np.isfinite(row).all():
                at = int(np.flatnonzero(~np.isfinite(row))[0])
                raise Stop(
                    f"layer {index} of {name} gives numbers that are not finite, in text {at}: see verify"
                )

    def _check_logits(self, values: NDArray[np.float64]) -> None:
        for stream, found in zip(self._streams[1:], values, strict=True):
            if not np.isfinite(found).all():
                position = int(np.flatnonzero(~np.isfinite(found).all(axis=0))[0])
                text = int(np.searchsorted(self._starts, position, side="right")) - 1
                raise Stop(
                    f"logits of {stream.name}, or of the source, are not finite, first in text {text}, "
                    f"token {position - self._starts[text]}: see proofcard verify"
                )

    def _complete(self, index: int, sums: Arrays) -> None:
        if index < self._source.stepper.layers - 1:
            for hidden in self._hidden:
                hidden.turn(index + 1)
        self._records.keep(index, {name: _listed(array) for name, array in sums.items()})


def _listed(array: NDArray[np.float64]) -> dict[str, Any]:
    """An array as JSON; NaN is null."""
    flat = [None if np.isnan(value) else value for value in array.reshape(-1).tolist()]
    return {"shape": list(array.shape), "values": flat}


def _arrays(record: dict[str, Any]) -> Arrays:
    return {
        name: np.array([np.nan if v is None else v for v in said["values"]], np.float64).reshape(
            said["shape"]
        )
        for name, said in record.items()
    }
