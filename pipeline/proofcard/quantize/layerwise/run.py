"""engine=layerwise, the loop over layers: read, calibrate, pack, write, free. A killed run loses one layer.

Every tensor's origin starts here: weights go through `pack`, input and KV scales through `calibrate`.
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.writer import Writer, layout
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import canonical_json
from proofcard.errors import Stop
from proofcard.progress import Layers, shown
from proofcard.quantize import tables
from proofcard.quantize.layerwise.calibrate import (
    LayerCalibration,
    LayerStatistics,
    exported_amaxes,
    input_scales,
    kv_scales,
    quantizer_name,
)
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.intake import URGENT
from proofcard.quantize.layerwise.pack import packed, unrounded_amaxes
from proofcard.quantize.layerwise.probe import kv_shapes
from proofcard.quantize.layerwise.resume import Records
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.stretches import marks
from proofcard.quantize.layerwise.structure import Structure
from proofcard.quantize.layerwise.tensors import raw
from proofcard.quantize.model import dtype, skeleton, tensor
from proofcard.quantize.preparing import Work, complete, prepared
from proofcard.quantize.quantizers import check_selected
from proofcard.quantize.statistics import CalibrationStatistics, gather
from proofcard.ranks import Ranks

Report = Callable[[int, dict[str, Any]], None]
"""Called with each layer's index and record, resumed or new."""


def make(work: Work, report: Report) -> CalibrationStatistics:
    """Write the whole checkpoint to `work.folder`, resuming an earlier run. Returns the statistics.

    Raises:
        Stop, OSError: as `Run`.
    """
    batches = prepared(work)
    run = Run(work.config, work.source, batches, work.device, work.folder, work.state, work.ranks)
    statistics = gather(run.layers(report), batches, marks(batches))
    if work.ranks.leads:
        tables.write(work.folder, statistics)
        complete(work)
    return statistics


class Run:
    """One run of engine=layerwise into `folder`, which may hold the partial state of an earlier one."""

    def __init__(
        self,
        config: QuantizeConfig,
        source: Source,
        batches: list[Batch],
        device: str,
        folder: Path,
        state: Path,
        ranks: Ranks,
    ) -> None:
        """`folder` gets the shards, `state` what a later run needs to resume after the last complete layer.

        Raises:
            Stop: when the model cannot be run layer by layer.
        """
        self._config, self._source, self._batches = config, source, batches
        self._folder, self._state, self._ranks = folder, state, ranks
        self._records = Records(state, ranks)
        self._threads = config.hardware.threads or len(os.sched_getaffinity(0))
        self._structure = Structure(source, config, skeleton(source, config.model))
        check_selected([name for layer in self._structure.layers for name in layer.linears])
        bare = skeleton(source, config.model)
        where = (
            torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
        )
        self._stepper = Stepper(source, bare, self._structure.prefix, where)
        if device == "cuda":
            self._packing = torch.cuda.Stream(where, priority=URGENT)  # one: a stream keeps its memory
        embedding = f"{self._stepper.embedding}.weight"
        shapes = [tuple(batch.input_ids.shape) for batch in batches]
        width = source.tensors[embedding].shape[1]
        memory = int(config.hardware.activation_memory_gib * 2**30)
        self._hidden = Hidden(self._state, shapes, width, dtype(source, embedding), memory)

    def layers(self, report: Report) -> list[dict[str, Any]]:
        """Process every layer that is not complete; pass each record, old or new, to `report`; return all.

        Raises:
            Stop: when the source, a statistic or a rank fails, or files of complete layers are missing.
            OSError: when the disk is full; space for tensors and hidden states is allocated before any work.
        """
        structure, ranks = self._structure, self._ranks
        records = self._records.read(len(structure.layers))
        for index, record in enumerate(records):
            report(index, record)
        shapes = self._kv_shapes()
        if ranks.leads:
            self._write_settings()
        entries, parameters = structure.describe_export(shapes)
        total = len(structure.layers)
        with Writer(self._folder, layout(entries, parameters)) as writer:
            if ranks.leads:
                self._take_room(writer, len(records))
            ranks.wait()
            with Layers(total, len(records), ranks.leads) as bars, ThreadPoolExecutor(1) as ahead:
                calibration = LayerCalibration(
                    self._config,
                    structure,
                    self._stepper,
                    self._batches,
                    ranks,
                    lambda batch: bars.advance(batch.input_ids.size),
                )
                coming = self._coming(ahead, len(records))
                for index in range(len(records), total):
                    bars.begin(len(ranks.share(len(self._batches))))
                    self._stepper.clear()
                    self._stepper.load(index, coming())
                    probe = calibration.probe(index, self._hidden)
                    under_way = Event()
                    try:
                        written = self._writing(ahead, writer, index, probe.groups(), under_way)
                        coming = self._coming(ahead, index + 1)
                        statistics = calibration.run(index, self._hidden, probe, under_way.set)
                    finally:
                        under_way.set()
                    amax = exported_amaxes(statistics, structure.layers[index], self._config.coverage.name)
                    written()
                    self._write_scales(writer, index, amax, statistics)
                    records.append(_record(statistics, amax))
                    self._complete(writer, index, records[-1])
                    report(index, records[-1])
                    bars.end()
            self._stepper.clear()
            outside = [entry.name for entry in entries if not entry.name.startswith(structure.prefix + ".")]
            for i in ranks.share(len(outside)):  # last: the source may still be on its way
                writer.write(outside[i], self._plain(outside[i], lambda name: tensor(self._source, name)))
            writer.sync()
            ranks.wait()
        if ranks.leads:
            self._hidden.remove()
        return records

    def _write_settings(self) -> None:
        """Rewrite everything beside the shards, since a run may have stopped while writing it."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".safetensors":
                path.unlink()
        self._structure.write_settings(self._folder)

    def _take_room(self, writer: Writer, done: int) -> None:
        """Allocate disk space for the remaining layers; check that the files of `done` layers exist."""
        to_come = done < len(self._structure.layers)
        if done and not (writer.allocated() and (self._hidden.holds(done) or not to_come)):
            raise Stop(f"files of complete layers are missing: delete {shown(self._state)} to start over")
        writer.allocate()
        if to_come:
            self._hidden.allocate()

    def _coming(self, ahead: ThreadPoolExecutor, index: int) -> Callable[[], dict[str, torch.Tensor]]:
        """How to get a layer's weights: read ahead while the GPU works, or on demand.

        Without a GPU, reading ahead would take memory for a second layer, and CPU time from the first.
        """
        if self._stepper.device.type == "cuda" and index < len(self._structure.layers):
            return ahead.submit(self._stepper.read, index).result
        return lambda: self._stepper.read(index)

    def _kv_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the affine biases, which no configuration has: measured with two tokens."""
        first = next((i for i, layer in enumerate(self._structure.layers) if layer.attentions), None)
        if self._config.kv_cache.format != "fp8_affine" or first is None:
            return {}
        self._stepper.load(first, self._stepper.read(first))
        return kv_shapes(self._stepper, self._structure.layers[first], first)

    def _writing(
        self,
        ahead: ThreadPoolExecutor,
        writer: Writer,
        index: int,
        groups: list[tuple[str, ...]],
        under_way: Event,
    ) -> Callable[[], None]:
        """How to have the layer's weights written: on a GPU while its batches run, else on demand.

        From when they are `under_way`: before, each would wait for Python's lock.
        """
        device = self._stepper.device
        if device.type != "cuda":
            return lambda: self._write_weights(writer, index, groups, self._stepper.weights())
        weights = self._stepper.weights()  # as they are now: the forced pass moves them while it runs

        def write() -> None:
            under_way.wait()
            with torch.cuda.device(device), torch.cuda.stream(self._packing), torch.no_grad():
                self._write_weights(writer, index, groups, weights)
                writer.sync()

        return ahead.submit(write).result

    def _write_weights(
        self, writer: Writer, index: int, groups: list[tuple[str, ...]], weights: dict[str, torch.Tensor]
    ) -> None:
        """Write this rank's share of the layer's weights."""
        layer = self._structure.layers[index]
        grouped = {name for names in groups for name in names}
        units = [*groups, *((name,) for name in layer.linears if name not in grouped)]
        mine = [units[i] for i in self._ranks.share(len(units))]
        linears = [name for unit in mine for name in unit]
        quantized = {f"{name}.weight" for name in layer.linears}
        others = [name for name in weights if name not in quantized]
        for name, value in packed(weights, linears, mine, self._block_amaxes, self._threads):
            writer.write(name, value)
        for i in self._ranks.share(len(others)):
            writer.write(others[i], self._plain(others[i], weights.__getitem__))

    def _write_scales(
        self, writer: Writer, index: int, amax: dict[str, float], statistics: LayerStatistics
    ) -> None:
        """Write this rank's share of the layer's input scales, and the scales of keys and values."""
        layer = self._structure.layers[index]
        mine = [layer.linears[i] for i in self._ranks.share(len(layer.linears))]
        for name, value in input_scales(amax, mine):
            writer.write(name, value)
        if self._ranks.leads:
            for name, value in kv_scales(amax, layer, statistics.biases):
                writer.write(name, value)

    def _plain(self, name: str, weight: Callable[[str], torch.Tensor]) -> np.ndarray:
        """The bytes of a weight that is not quantized."""
        if self._structure.unrounded(name):
            return self._source.unrounded(name)
        return raw(weight(name))

    def _block_amaxes(self, linear: str) -> np.ndarray | None:
        """The values behind a quantized weight's block scales, if that is not the BF16 weight."""
        if not self._structure.unrounded(f"{linear}.weight"):
            return None
        return unrounded_amaxes(self._source, linear, self._threads)

    def _complete(self, writer: Writer, index: int, record: dict[str, Any]) -> None:
        """Force the layer's bytes to disk, then write its record."""
        self._hidden.turn(index + 1)
        writer.sync()
        self._records.keep(index, record)


def _record(statistics: LayerStatistics, amax: dict[str, float]) -> dict[str, Any]:
    """A layer's record: `amax` as exported, the rest as in `LayerStatistics`."""
    record = {
        "quantizers": [quantizer_name(name) for name in amax],
        "amax": list(amax.values()),
        "curve": statistics.curve,
        "datasets": statistics.datasets,
        "natural": statistics.natural,
        "routed": statistics.routed,
        "forced": statistics.forced,
    }
    read: dict[str, Any] = json.loads(canonical_json(record))  # as a later run reads it, including its order
    return read
