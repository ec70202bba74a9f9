"""The loop over layers: read, calibrate, pack, write, free. After each, a kill costs nothing done."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proofcard import nvfp4
from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.writer import Writer, layout
from proofcard.config.schema import QuantizeConfig
from proofcard.digest import canonical_json
from proofcard.disk import write_whole
from proofcard.errors import Stop
from proofcard.progress import Layers, shown
from proofcard.quantize.layerwise import pack
from proofcard.quantize.layerwise.calibrate import LayerCalibration, Statistics
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Structure
from proofcard.quantize.model import dtype, skeleton, tensor
from proofcard.quantize.modelopt import check_selected
from proofcard.ranks import Ranks


class Run:
    """One run of engine=layerwise into `folder`, which may hold the beginning of it."""

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
        """`folder` takes the shards, `state` what a later run needs to go on after the last complete layer.

        Raises:
            Stop: when the model cannot be run layer by layer.
        """
        self._config, self._source, self._batches = config, source, batches
        self._folder, self._state, self._ranks = folder, state, ranks
        self._threads = config.hardware.threads or len(os.sched_getaffinity(0))
        self._structure = Structure(source, config, skeleton(source, config.model))
        check_selected([name for layer in self._structure.layers for name in layer.linears])
        bare = skeleton(source, config.model)
        where = (
            torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
        )
        self._stepper = Stepper(source, bare, self._structure.prefix, where)
        words = f"{self._stepper.embedding}.weight"
        shapes = [tuple(batch.input_ids.shape) for batch in batches]
        width = source.tensors[words].shape[1]
        memory = int(config.hardware.activation_memory_gib * 2**30)
        self._hidden = Hidden(self._state, shapes, width, dtype(source, words), memory)

    def layers(self, report: Callable[[int, dict[str, Any]], None]) -> list[dict[str, Any]]:
        """Make every layer that is not made yet; tell `report` of each, made before or now, and return all.

        Raises:
            Stop: when the source, a statistic or a rank fails, or files of complete layers are missing.
            OSError: when the disk is full, for tensors and hidden states before any work: their room is taken
                first.
        """
        structure, ranks = self._structure, self._ranks
        records = self._read_records()
        for index, record in enumerate(records):
            report(index, record)
        kv_shapes = self._kv_shapes()
        if ranks.leads:
            self._write_settings()
        entries, parameters = structure.describe_export(kv_shapes)
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
                    self._stepper.stand(index, coming())
                    coming = self._coming(ahead, index + 1)
                    found = calibration.run(index, self._hidden)
                    amax = self._settled(index, found)
                    self._write(writer, index, amax, found)
                    records.append(_record(found, amax))
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
        """Everything beside the shards, anew: a run may have ended in the middle of any of it."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".safetensors":
                path.unlink()
        self._structure.write_settings(self._folder)

    def _take_room(self, writer: Writer, done: int) -> None:
        """The room for everything to come; what `done` layers rely on must be there."""
        to_come = done < len(self._structure.layers)
        if done and not (writer.allocated() and (self._hidden.holds(done) or not to_come)):
            raise Stop(f"files of complete layers are missing: remove {shown(self._state)} to start over")
        writer.allocate()
        if to_come:
            self._hidden.allocate()

    def _coming(self, ahead: ThreadPoolExecutor, index: int) -> Callable[[], dict[str, torch.Tensor]]:
        """How to get a layer's weights: read from now on, behind the work of a GPU, or when asked for.

        Without a GPU, reading ahead would take memory for a second layer, and cores from the first.
        """
        if self._stepper.device.type == "cuda" and index < len(self._structure.layers):
            return ahead.submit(self._stepper.read, index).result
        return lambda: self._stepper.read(index)

    def _kv_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of affine biases are in no configuration: two tokens through an attention tell them."""
        first = next((i for i, layer in enumerate(self._structure.layers) if layer.attentions), None)
        if self._config.kv_cache.format != "fp8_affine" or first is None:
            return {}
        self._stepper.stand(first, self._stepper.read(first))
        calibration = LayerCalibration(
            self._config, self._structure, self._stepper, self._batches, self._ranks, lambda _: None
        )
        return calibration.kv_shapes(first)

    def _settled(self, index: int, found: Statistics) -> dict[str, float]:
        """The amax that each quantizer is exported with.

        Raises:
            Stop: naming the first quantizer that ended without a finite, positive one.
        """
        for name, value in found.amax.items():
            if not isfinite(value):  # before sharing: no maximum with another may hide it
                raise Stop(f"{_quantizer(name)} ended with amax {value}: its input is not finite")
        amax = found.amax
        if self._config.coverage.name == "natural":
            for block in self._structure.layers[index].blocks:
                parts = {
                    name.removeprefix(block.experts[0])
                    for name in amax
                    if name.startswith(block.experts[0] + ".")
                }
                amax = pack.shared_amaxes(
                    amax, [tuple(e + part for e in block.experts) for part in sorted(parts)]
                )
        for name, value in amax.items():
            if value <= 0:
                raise Stop(f"{_quantizer(name)} ended with amax {value}: no sample reached it, or only zeros")
        return pack.shared_amaxes(amax, found.groups)

    def _write(self, writer: Writer, index: int, amax: dict[str, float], found: Statistics) -> None:
        """This rank's part of the layer's tensors."""
        layer = self._structure.layers[index]
        weights = self._stepper.weights()
        grouped = {name for names in found.groups for name in names}
        units = [*found.groups, *((name,) for name in layer.linears if name not in grouped)]
        mine = [units[i] for i in self._ranks.share(len(units))]
        names = [name for unit in mine for name in unit]
        largest = pack.shared_amaxes(pack.weight_amaxes(weights, names, self._threads), mine)
        for name in names:
            weight = weights[f"{name}.weight"]
            blocks = self._block_amaxes(f"{name}.weight")
            made = pack.packed(name, weight, largest[name], amax[name], self._threads, blocks)
            for tensor_name, value in made:
                writer.write(tensor_name, value)
        packed = {f"{name}.weight" for name in layer.linears}
        others = [name for name in weights if name not in packed]
        for i in self._ranks.share(len(others)):
            writer.write(others[i], self._plain(others[i], weights.__getitem__))
        if self._ranks.leads:
            for name in layer.attentions:
                both = (amax[f"{name}.k_bmm_quantizer"], amax[f"{name}.v_bmm_quantizer"])
                for tensor_name, value in pack.kv(name, both, found.biases[name]):
                    writer.write(tensor_name, value)

    def _plain(self, name: str, weight: Callable[[str], torch.Tensor]) -> np.ndarray:
        """The bytes of a weight that is not quantized."""
        if self._structure.unrounded(name):
            return self._source.unrounded(name)
        return pack.raw(weight(name))

    def _block_amaxes(self, name: str) -> np.ndarray | None:
        """What a quantized weight's block scales come from, where that is not the BF16 weight."""
        if not self._structure.unrounded(name):
            return None
        weight, scale = self._source.stored(name).bits(), self._source.fp8_scales(name)
        return nvfp4.block_amaxes_fp8(weight, scale, block=self._source.block, threads=self._threads)

    def _complete(self, writer: Writer, index: int, record: dict[str, Any]) -> None:
        """From here on the layer is done, whatever happens: its bytes are on disk before its record is."""
        self._hidden.turn(index + 1)
        writer.sync()
        self._ranks.wait()
        if self._ranks.leads:
            write_whole(self._state / f"layer-{index:05}.json", canonical_json(record))
        self._ranks.wait()

    def _read_records(self) -> list[dict[str, Any]]:
        """The records of the layers that are complete, the first ones without a gap."""
        records = []
        for index in range(len(self._structure.layers)):
            path = self._state / f"layer-{index:05}.json"
            if not path.exists():
                break
            records.append(json.loads(path.read_text(encoding="utf-8")))
        self._ranks.wait()  # nobody adds a record before everybody has counted
        return records


def _record(found: Statistics, amax: dict[str, float]) -> dict[str, Any]:
    """What stays of a layer: `amax` as exported, the rest as `Statistics` has it."""
    record = {
        "quantizers": [_quantizer(name) for name in amax],
        "amax": list(amax.values()),
        "curve": found.curve,
        "datasets": found.datasets,
        "natural": found.natural,
        "routed": found.routed,
        "forced": found.forced,
    }
    read: dict[str, Any] = json.loads(canonical_json(record))  # as a later run finds it, its order included
    return read


def _quantizer(name: str) -> str:
    """A quantizer's own name: that of a KV quantizer, or of the input quantizer of a linear."""
    return name if name.endswith("_bmm_quantizer") else f"{name}.input_quantizer"
