"""One pass over the layers: each is read once from source and checkpoint, and every stream goes through it.

Texts run without padding, alone or with others of their length; every sum is over one text. Ranks share
the texts out; each writes its results in the places of its texts, and nothing is added up across ranks, so no
number depends on how many there are.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proofcard.calibration.batches import Batch
from proofcard.errors import Stop
from proofcard.evaluate.compute import Compute, layer_parts
from proofcard.evaluate.layer_sums import Arrays, LayerSums, starts
from proofcard.evaluate.streams import Stream
from proofcard.evaluate.weights import Checkpoint
from proofcard.progress import Layers
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.resume import Records
from proofcard.ranks import Ranks

POSITIONS = "positions.npy"


class Pass:
    """Texts through the layers. `folder` keeps what a later run needs to resume."""

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
        together: int = 1,
    ) -> None:
        """`width` are channels and dtype of hidden states, of which `memory` bytes may stay in memory.

        So many texts of one length run `together` where computes can keep them apart.
        """
        self._source, self._checkpoint, self._stored = source, checkpoint, stored
        self._streams, self._texts, self._folder, self._ranks = streams, texts, folder, ranks
        shapes = [tuple(text.input_ids.shape) for text in texts]
        self._hidden = []
        for number in range(len(streams)):
            place = folder / f"stream-{number}"
            if ranks.leads:
                place.mkdir(exist_ok=True)
            self._hidden.append(Hidden(place, shapes, *width, memory // len(streams)))
        self._starts = starts(texts)
        self._groups = groups(texts, together if source.apart and checkpoint.apart else 1)
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
        self._allocate(len(done), total)
        with Layers(total, len(done), self._ranks.leads) as bars, ThreadPoolExecutor(1) as ahead:
            coming = self._coming(ahead, len(done), total)
            for index in range(len(done), total):
                bars.begin(len(self._ranks.share(len(self._groups))))
                self._load(index, *coming())
                coming = self._coming(ahead, index + 1, total)
                sums = self._layer(index, index == total - 1, bars)
                self._complete(index, sums)
                done.append(sums)
                report(index, sums)
                bars.end()
        return done, np.load(self._folder / POSITIONS, allow_pickle=False)

    def _allocate(self, done: int, total: int) -> None:
        if self._ranks.leads:
            there = (self._folder / POSITIONS).exists() if done == total else True
            if done and not (there and (done == total or all(h.holds(done) for h in self._hidden))):
                raise Stop(f"files of complete layers are missing: remove {self._folder} to start over")
            if done < total:
                for hidden in self._hidden:
                    hidden.allocate()
        self._ranks.wait()

    def _coming(self, ahead: ThreadPoolExecutor, index: int, total: int) -> Callable[[], Any]:
        """How to get a layer's weights: read in the background on a GPU, or when they are needed."""

        def read() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
            return self._source.stepper.read(index), self._checkpoint.stepper.read(index)

        if self._source.stepper.device.type == "cuda" and index < total:
            return ahead.submit(read).result
        return read

    def _load(self, index: int, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
        """Both sets of weights; equal tensors are held once."""
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
        """Sums of one layer, over all ranks: see `LayerSums`."""
        name = f"{self._source.stepper.prefix}.{index}"
        inside = layer_parts(self._source.stepper.modules, name)
        linears = [linear for linear in self._stored.linears() if linear.startswith(name + ".")]
        sums = LayerSums(self._source, self._checkpoint, self._streams, self._texts, inside, last)
        with sums.hooked(linears), torch.no_grad():
            for group in self._ranks.share(len(self._groups)):
                numbers = self._groups[group]
                states = [self._states(hidden, index, numbers) for hidden in self._hidden]
                for hidden, output in zip(self._hidden, sums.add(numbers, states), strict=True):
                    for place, number in enumerate(numbers if not last else ()):
                        hidden.write(index + 1, number, output[place : place + 1])
                bars.advance(sum(self._texts[number].input_ids.size for number in numbers))
        for array in sums.sums.values():
            self._together(array)
        self._check_finite(index, sums.sums)
        if sums.values is not None:
            self._together(sums.values)
            self._check_logits(sums.values)
            if self._ranks.leads:
                np.save(self._folder / POSITIONS, sums.values, allow_pickle=False)
        return sums.sums

    def _states(self, hidden: Hidden, index: int, numbers: list[int]) -> torch.Tensor | None:
        return torch.cat([hidden.read(index, number) for number in numbers]) if index else None

    def _together(self, array: NDArray[np.float64]) -> None:
        """Each rank has filled its own places and left zero bits elsewhere: the sum of the bits holds all."""
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
        for stream, sums in zip(self._streams[1:], values, strict=True):
            if not np.isfinite(sums).all():
                position = int(np.flatnonzero(~np.isfinite(sums).all(axis=0))[0])
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


def groups(texts: list[Batch], together: int) -> list[list[int]]:
    """Numbers of texts that run as one, all of one length, in the order of their first."""
    of_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        of_length.setdefault(text.input_ids.size, []).append(number)
    made = [
        alike[at : at + together] for alike in of_length.values() for at in range(0, len(alike), together)
    ]
    return sorted(made)


def _listed(array: NDArray[np.float64]) -> dict[str, Any]:
    """An array as JSON; NaN is null."""
    flat = [None if np.isnan(value) else value for value in array.reshape(-1).tolist()]
    return {"shape": list(array.shape), "values": flat}


def _arrays(record: dict[str, Any]) -> Arrays:
    return {
        name: np.array([np.nan if v is None else v for v in stored["values"]], np.float64).reshape(
            stored["shape"]
        )
        for name, stored in record.items()
    }
