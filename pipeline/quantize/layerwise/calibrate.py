"""Calibrating the standing layer: every batch through it, statistics on the way, its output to the next."""

from collections.abc import Callable, Set
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.calibration.batches import Batch
from pipeline.config.schema import QuantizeConfig
from pipeline.quantize.layerwise.experts import Forced, Probe
from pipeline.quantize.layerwise.hidden import Hidden
from pipeline.quantize.layerwise.observe import Observer, collecting_kv, intercepted, watching
from pipeline.quantize.layerwise.stepper import Stepper
from pipeline.quantize.layerwise.structure import Layer, Structure
from pipeline.quantize.layerwise.traffic import Traffic
from pipeline.ranks import Ranks

KV = ("k_bmm_quantizer", "v_bmm_quantizer")
_TWO_TOKENS = Batch(np.ones((1, 2), np.int64), np.ones((1, 2), np.int64))


@dataclass(frozen=True)
class Statistics:
    """What calibration found in one layer, over all ranks.

    `amax` by quantized linear or KV quantizer; `curve` the same after each mark's samples; `routed` and
    `forced` the positions, padding included, that each expert of a block saw.
    """

    amax: dict[str, float]
    curve: list[list[float]]
    routed: dict[str, list[int]]
    forced: dict[str, list[int]]
    groups: list[tuple[str, ...]]
    biases: dict[str, dict[str, torch.Tensor]]


def marks(batches: list[Batch]) -> list[tuple[int, int]]:
    """After which batches the running amax is noted, and after how many samples: doublings, and the end."""
    noted, samples, due = [], 0, 1
    for index, batch in enumerate(batches):
        samples += len(batch.input_ids)
        if samples >= due or index == len(batches) - 1:
            noted.append((index, samples))
            due = 2 * samples
    return noted


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
            amax, curve, rows = self._pass(index, hidden, forced, chosen, quantizers, routed=True)
        if self._config.coverage.name == "top_up":
            wanted = self._config.coverage.minimum_tokens
            assert wanted is not None
            chosen = {
                block.name: tuple(expert for expert in block.experts if rows[expert] < wanted)
                for block in layer.blocks
            }
            if any(chosen.values()):
                more, more_curve, _ = self._pass(index, hidden, forced, chosen, {}, routed=False)
                amax[: len(more)] = torch.maximum(amax[: len(more)], more)
                curve[:, : len(more)] = torch.maximum(curve[:, : len(more)], more_curve)
        names = layer.linears + [f"{name}.{kind}" for name in layer.attentions for kind in KV]
        return Statistics(
            amax=dict(zip(names, amax.tolist(), strict=True)),
            curve=curve.tolist(),
            routed={b.name: [rows[expert] for expert in b.experts] for b in layer.blocks},
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
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, int]]:
        """Every batch once: its own way when `routed`, then forced upon the `chosen` experts.

        Returns amax and its curve [marks, quantizers], and the rows that each expert saw on its own way.
        """
        layer = self._structure.layers[index]
        modules = self._stepper.modules
        observer = Observer(layer, self._stepper.device)
        owners = _owners(layer)
        within = {
            block: {name for name, expert in owners.items() if expert in experts}
            for block, experts in chosen.items()
        }
        rows = dict.fromkeys([expert for block in layer.blocks for expert in block.experts], 0)
        inputs: dict[str, torch.Tensor] = {}
        curve: list[torch.Tensor] = []
        due = [batch for batch, _ in marks(self._batches)]

        def note(before: int) -> None:
            while due and due[0] < before:
                due.pop(0)
                curve.append(torch.cat([observer.amax.cpu(), _kv_amaxes(quantizers)]))

        def count(expert: str, values: torch.Tensor) -> None:
            rows[expert] += counting * (values.numel() // values.shape[-1])

        with ExitStack() as stack:
            stack.enter_context(watching(modules, layer.linears, observer.see))
            stack.enter_context(watching(modules, rows, count))
            stack.enter_context(watching(modules, [block.name for block in layer.blocks], inputs.__setitem__))
            traffic = stack.enter_context(Traffic(hidden, index, self._stepper.device))
            for number, states in traffic.inputs(self._ranks.share(len(self._batches))):
                note(number)
                observer.only = _open(layer, forced, chosen) if routed else frozenset()
                counting = True
                output = self._stepper.run(
                    states, self._batches[number], self._config.calibration.attention_mask
                )
                counting = False
                if routed and index < len(self._structure.layers) - 1:
                    traffic.send(number, output)
                observer.flush()
                for force in forced:
                    if experts := chosen[force.block.name]:
                        observer.only = within[force.block.name]
                        force.run(inputs[force.block.name], experts)
                        observer.flush()
                self._progress(self._batches[number])
            traffic.finish()
        note(len(self._batches))
        return self._over_ranks(curve, rows)

    def _over_ranks(
        self, curve: list[torch.Tensor], rows: dict[str, int]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, int]]:
        device = self._stepper.device
        everywhere = torch.stack(curve).to(device)
        counts = torch.tensor(list(rows.values()), dtype=torch.int64, device=device)
        self._ranks.largest(everywhere)
        self._ranks.total(counts)
        return everywhere[-1].cpu(), everywhere.cpu(), dict(zip(rows, counts.tolist(), strict=True))

    def _probe(self, layer: Layer, index: int, hidden: Hidden) -> Probe:
        probe = Probe(layer)
        experts = [expert for block in layer.blocks for expert in block.experts]
        with watching(self._stepper.modules, layer.linears + experts, probe.see):
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


def _open(layer: Layer, forced: list[Forced], chosen: dict[str, tuple[str, ...]]) -> Set[str]:
    """The linears to watch on the natural way: all whose inputs the forced pass does not contain anyway.

    An expert that is forced to see every row sees the routed ones too, bit by bit; but what it makes of
    them, its last linear's input, comes from a product of another shape and may differ in the last bit.
    """
    covered: set[str] = set()
    for force in forced:
        if force.direct and chosen[force.block.name] == force.block.experts:
            covered |= force.whole
    return set(layer.linears) - covered


def _kv_amaxes(quantizers: dict[str, tuple[Any, Any]]) -> torch.Tensor:
    """Running amax of keys and values, float32, 0 before anything came."""
    found = [quantizer._calibrator.compute_amax() for pair in quantizers.values() for quantizer in pair]
    return torch.tensor([0.0 if value is None else float(value) for value in found], dtype=torch.float32)


def _biases(pair: tuple[Any, Any]) -> dict[str, torch.Tensor]:
    biases = {}
    for kind, quantizer in zip("kv", pair, strict=True):
        if quantizer.bias_calibrator is not None:
            biases[kind] = quantizer.bias_calibrator.compute_bias().cpu()
    return biases
