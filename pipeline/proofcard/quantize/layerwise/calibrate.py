"""Calibrating the standing layer: every batch through it, statistics on the way, its output to the next."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from proofcard.calibration.batches import Batch
from proofcard.config.schema import QuantizeConfig
from proofcard.quantize.layerwise.experts import Forced, Probe
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.observe import (
    FORCED,
    ROUTED,
    Observer,
    collecting_kv,
    intercepted,
    watching,
)
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.stretches import by_dataset, running, stretches, sums_by_dataset
from proofcard.quantize.layerwise.structure import Layer, Structure
from proofcard.quantize.layerwise.traffic import Traffic
from proofcard.quantize.modelopt import CONSTANT_AMAX
from proofcard.ranks import Ranks

KV = ("k_bmm_quantizer", "v_bmm_quantizer")
_TWO_TOKENS = Batch(np.ones((1, 2), np.int64), np.ones((1, 2), np.int64))


@dataclass(frozen=True)
class Statistics:
    """What calibration found in one layer, over all ranks.

    `amax` by quantized linear or KV quantizer; of the same quantizers `curve` [marks, quantizers], the
    running amax, `datasets` [datasets, quantizers], what each dataset alone would have given, and `natural`
    [quantizers], what the router's own choices alone gave. Positions, padding included, that each expert of a
    block saw: `routed` [datasets, experts] and `forced` [experts].
    """

    amax: dict[str, float]
    curve: list[list[float]]
    datasets: list[list[float]]
    natural: list[float]
    routed: dict[str, list[list[int]]]
    forced: dict[str, list[int]]
    groups: list[tuple[str, ...]]
    biases: dict[str, dict[str, torch.Tensor]]


class LayerCalibration:
    """Runs batches through the layer that stands in `stepper`; `progress` is told of each batch."""

    def __init__(
        self,
        config: QuantizeConfig,
        structure: Structure,
        stepper: Stepper,
        batches: list[Batch],
        ranks: Ranks,
        progress: Callable[[Batch], None],
    ) -> None:
        self._config, self._structure, self._stepper = config, structure, stepper
        self._batches, self._ranks, self._progress = batches, ranks, progress
        self._positions = sum(batch.input_ids.size for batch in batches)

    def kv_shapes(self, index: int) -> dict[str, tuple[int, ...]]:
        """Shape of the affine biases of a layer's keys and values: a mean over samples and tokens."""
        shapes: dict[str, tuple[int, ...]] = {}
        with ExitStack() as stack:
            for name in self._structure.layers[index].attentions:
                seen = [
                    lambda x, kind=kind: shapes.update({kind: (1, x.shape[1], 1, x.shape[3])}) for kind in KV
                ]
                stack.enter_context(intercepted(self._stepper.modules[name], *seen))
            words = self._stepper.modules[self._stepper.embedding].weight
            states = torch.zeros((1, 2, words.shape[1]), dtype=words.dtype) if index else None
            self._stepper.run(states, _TWO_TOKENS, attention_mask=False)
        return shapes

    def run(self, index: int, hidden: Hidden) -> Statistics:
        """Statistics of layer `index`, which stands; writes the next layer's input to `hidden`."""
        layer = self._structure.layers[index]
        probe = self._probe(layer, index, hidden)
        forced = [Forced(block, self._stepper.modules, probe) for block in layer.blocks]
        everywhere = self._config.coverage.name == "all_experts"
        chosen = {block.name: block.experts if everywhere else () for block in layer.blocks}
        quantizers = {name: self._structure.kv_quantizers(name) for name in layer.attentions}
        with collecting_kv(self._stepper.modules, quantizers):
            noted, rows = self._pass(index, hidden, forced, chosen, quantizers, routed=True)
        if self._config.coverage.name == "top_up":
            wanted = self._config.coverage.minimum_tokens
            assert wanted is not None
            seen = dict(zip(_experts(layer), rows.sum(dim=0).tolist(), strict=True))
            chosen = {
                block.name: tuple(expert for expert in block.experts if seen[expert] < wanted)
                for block in layer.blocks
            }
            if any(chosen.values()):
                more, _ = self._pass(index, hidden, forced, chosen, quantizers, routed=False)
                noted = torch.maximum(noted, more)
        names = layer.linears + [f"{name}.{kind}" for name in layer.attentions for kind in KV]
        every, both = noted.amax(dim=1), noted.amax(dim=0)
        routed = dict(zip(_experts(layer), sums_by_dataset(rows, self._batches).T.tolist(), strict=True))
        return Statistics(
            amax=dict(zip(names, every.amax(dim=0).tolist(), strict=True)),
            curve=running(every, self._batches).tolist(),
            datasets=by_dataset(every, self._batches).tolist(),
            natural=both[ROUTED].tolist(),
            routed={
                b.name: [list(counts) for counts in zip(*(routed[e] for e in b.experts), strict=True)]
                for b in layer.blocks
            },
            forced={
                b.name: [self._positions * (expert in chosen[b.name]) for expert in b.experts]
                for b in layer.blocks
            },
            groups=probe.groups(),
            biases={name: _biases(pair) for name, pair in quantizers.items()},
        )

    def _pass(
        self,
        index: int,
        hidden: Hidden,
        forced: list[Forced],
        chosen: dict[str, tuple[str, ...]],
        quantizers: dict[str, tuple[Any, Any]],
        routed: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every batch once: its own way when `routed`, then forced upon the `chosen` experts.

        Returns the amax of each stretch, float32 [stretches, 2, quantizers], routed and forced; and the rows
        that each expert saw on its own way, int64 [stretches, experts].
        """
        layer = self._structure.layers[index]
        modules = self._stepper.modules
        observer = Observer(layer, self._stepper.device)
        own = frozenset(layer.linears) if routed else frozenset()
        owners = _owners(layer)
        within = {
            block: {name for name, expert in owners.items() if expert in experts}
            for block, experts in chosen.items()
        }
        rows = dict.fromkeys(_experts(layer), 0)
        inputs: dict[str, torch.Tensor] = {}
        amaxes: list[torch.Tensor] = []
        counts: list[list[int]] = []
        due = [stretch.last for stretch in stretches(self._batches)]

        def note(before: int) -> None:
            while due and due[0] < before:
                due.pop(0)
                amaxes.append(torch.cat([observer.take(), _take_kv(quantizers)], dim=1))
                counts.append(list(rows.values()))
                rows.update(dict.fromkeys(rows, 0))

        def count(expert: str, values: torch.Tensor) -> None:
            rows[expert] += counting * (values.numel() // values.shape[-1])

        with ExitStack() as stack:
            stack.enter_context(watching(modules, layer.linears, observer.see))
            stack.enter_context(watching(modules, rows, count))
            stack.enter_context(watching(modules, [block.name for block in layer.blocks], inputs.__setitem__))
            traffic = stack.enter_context(Traffic(hidden, index, self._stepper.device))
            for number, states in traffic.inputs(self._ranks.share(len(self._batches))):
                note(number)
                observer.only = own
                counting = True
                output = self._stepper.run(
                    states, self._batches[number], self._config.calibration.attention_mask
                )
                counting = False
                if routed and index < len(self._structure.layers) - 1:
                    traffic.send(number, output)
                observer.flush(ROUTED)
                for force in forced:
                    if experts := chosen[force.block.name]:
                        observer.only = within[force.block.name]
                        force.run(inputs[force.block.name], experts)
                        observer.flush(FORCED)
                self._progress(self._batches[number])
            traffic.finish()
        note(len(self._batches))
        return self._over_ranks(torch.stack(amaxes), torch.tensor(counts, dtype=torch.int64))

    def _over_ranks(self, amaxes: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        everywhere, total = amaxes.to(self._stepper.device), counts.to(self._stepper.device)
        self._ranks.largest(everywhere)
        self._ranks.total(total)
        return everywhere.cpu(), total.cpu()

    def _probe(self, layer: Layer, index: int, hidden: Hidden) -> Probe:
        probe = Probe(layer)
        with watching(self._stepper.modules, layer.linears + _experts(layer), probe.see):
            states = hidden.read(index, 0)[:1, :2] if index else None
            self._stepper.run(states, _TWO_TOKENS, attention_mask=False)
        return probe


def _owners(layer: Layer) -> dict[str, str]:
    """The expert that each linear of an expert belongs to."""
    experts = {expert for block in layer.blocks for expert in block.experts}
    found = {}
    for name in layer.linears:
        home = name
        while home and home not in experts:
            home = home.rpartition(".")[0]
        if home:
            found[name] = home
    return found


def _experts(layer: Layer) -> list[str]:
    return [expert for block in layer.blocks for expert in block.experts]


def _take_kv(quantizers: dict[str, tuple[Any, Any]]) -> torch.Tensor:
    """Amax of keys and values since the last time, float32 [2, quantizers], 0 before anything came.

    Nothing is forced upon an attention.
    """
    found = [_take_amax(quantizer) for pair in quantizers.values() for quantizer in pair]
    routed = torch.tensor(found, dtype=torch.float32)
    return torch.stack([routed, torch.zeros_like(routed)])


def _take_amax(quantizer: Any) -> float:
    if quantizer._use_constant_amax:
        return CONSTANT_AMAX
    found = quantizer._calibrator.compute_amax()
    quantizer._calibrator.reset()
    return 0.0 if found is None else float(found)


def _biases(pair: tuple[Any, Any]) -> dict[str, torch.Tensor]:
    biases = {}
    for kind, quantizer in zip("kv", pair, strict=True):
        if quantizer.bias_calibrator is not None:
            biases[kind] = quantizer.bias_calibrator.compute_bias().cpu()
    return biases
