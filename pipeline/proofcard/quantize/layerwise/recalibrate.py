"""Calibration alone, of all layers or of some: no weight is packed, no checkpoint written.

Layers that are not asked for are only run through, to have the next one's input. With that input at hand,
kept by an earlier run, the layers before it are not run at all.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop
from proofcard.quantize.layerwise.calibrate import LayerCalibration, exported_amaxes, input_scales, kv_scales
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Structure
from proofcard.quantize.layerwise.traffic import Traffic
from proofcard.quantize.model import dtype, skeleton
from proofcard.ranks import Ranks


@dataclass(frozen=True)
class Scales:
    """What a layer's calibration gives: bytes of every scale and bias, by tensor name."""

    layer: int
    values: dict[str, bytes]


class Recalibration:
    """The layers of a model, calibrated again one by one. `state` takes the hidden states between them."""

    def __init__(
        self, config: QuantizeConfig, source: Source, batches: list[Batch], device: str, state: Path
    ) -> None:
        """Raises Stop when the model cannot be run layer by layer."""
        self._config, self._source, self._batches = config, source, batches
        self._structure = Structure(source, config, skeleton(source, config.model))
        where = (
            torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
        )
        self._stepper = Stepper(source, skeleton(source, config.model), self._structure.prefix, where)
        words = f"{self._stepper.embedding}.weight"
        self._hidden = Hidden(
            state,
            [tuple(batch.input_ids.shape) for batch in batches],
            source.tensors[words].shape[1],
            dtype(source, words),
            int(config.hardware.activation_memory_gib * 2**30),
        )
        self._state = state

    @property
    def layers(self) -> int:
        """How many decoder layers there are."""
        return len(self._structure.layers)

    def scales(
        self,
        wanted: set[int],
        begin: dict[int, Path],
        keep: Path | None,
        progress: Callable[[int], None],
    ) -> Iterator[Scales]:
        """The scales of the `wanted` layers, in order.

        `begin` has files of hidden states by the layer that they go into; each saves what comes before it.
        With `keep`, a folder, the input of every wanted layer but the first of the model is copied there.
        `progress` is called with each layer that is done.

        Raises:
            Stop: for a layer that the model does not have, hidden states of another size, or as calibration.
        """
        if out := sorted(index for index in wanted if not 0 <= index < self.layers):
            raise Stop(f"layers names {out[0]}, the model has layers 0 to {self.layers - 1}")
        self._hidden.allocate()
        calibration = LayerCalibration(
            self._config, self._structure, self._stepper, self._batches, Ranks(), lambda batch: None
        )
        index = 0
        for last in sorted(wanted):
            if nearest := [layer for layer in begin if index < layer <= last]:
                index = max(nearest)
                self._start(index, begin[index])
            while index <= last:
                self._stepper.clear()
                self._stepper.load(index, self._stepper.read(index))
                if index in wanted:
                    if keep is not None and index > 0:
                        shutil.copyfile(self._hidden.file(index), keep / file_name(index))
                    yield self._calibrated(calibration, index)
                else:
                    self._run_through(index)
                progress(index)
                index += 1
                self._hidden.turn(index)
        self._stepper.clear()
        self._hidden.remove()

    def _start(self, index: int, file: Path) -> None:
        """Take the hidden states of a file for what goes into layer `index`."""
        if file.stat().st_size != self._hidden.bytes:
            raise Stop(
                f"{file.name} holds {file.stat().st_size:,} bytes of hidden states, these samples have "
                f"{self._hidden.bytes:,}"
            )
        shutil.copyfile(file, self._hidden.file(index))
        self._hidden.forget()

    def _calibrated(self, calibration: LayerCalibration, index: int) -> Scales:
        layer = self._structure.layers[index]
        found = calibration.run(index, self._hidden, calibration.probe(index, self._hidden))
        amax = exported_amaxes(found, layer, self._config.coverage.name)
        tensors = [*input_scales(amax, layer.linears), *kv_scales(amax, layer, found.biases)]
        return Scales(index, {name: value.tobytes() for name, value in tensors})

    def _run_through(self, index: int) -> None:
        with Traffic(self._hidden, index, self._stepper.device) as traffic:
            for number, states in traffic.inputs(range(len(self._batches))):
                mask = self._config.calibration.attention_mask
                traffic.send(number, self._stepper.run(states, self._batches[number], mask))
            traffic.finish()


def file_name(layer: int) -> str:
    """What the file of a layer's input is called in a folder of activations."""
    return f"layer-{layer:05}.hidden"


def layer_of(name: str) -> int | None:
    """The layer that a file of such a folder goes into."""
    stem, _, number = name.removesuffix(".hidden").partition("-")
    return int(number) if stem == "layer" and name.endswith(".hidden") and number.isdigit() else None
