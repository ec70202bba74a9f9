"""Calibrates one layer: runs every batch through it, measures amaxes, and derives scales from them.

`input_scale`, `k_scale` and `v_scale` come from here: the largest magnitude of each quantized linear's input,
of keys and of values. A magnitude is exact in BF16 and a maximum is the same in any order, so nothing here
rounds. ModelOpt also measures each weight's amax in every call; here only inputs are measured.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

import torch

from proofcard import nvfp4
from proofcard.calibration.batches import Batch
from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop
from proofcard.quantize.layerwise.crew import Crew, urgent
from proofcard.quantize.layerwise.excerpts import Excerpts
from proofcard.quantize.layerwise.experts import Forced
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.hooks import collecting_kv, watching
from proofcard.quantize.layerwise.observer import FORCED, ROUTED, Observer
from proofcard.quantize.layerwise.probe import KV, Probe, probed
from proofcard.quantize.layerwise.routed import Routed, Watch, learned, taking_over
from proofcard.quantize.layerwise.sharing import Sharing
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.stretches import by_dataset, running, stretches, sums_by_dataset
from proofcard.quantize.layerwise.structure import Layer, Structure
from proofcard.quantize.layerwise.tensors import Tensors, named, raw
from proofcard.quantize.layerwise.traffic import Traffic
from proofcard.quantize.quantizers import CONSTANT_AMAX
from proofcard.ranks import Ranks

_FIRST = 12  # batches, before the host has time for other work


@dataclass(frozen=True)
class LayerStatistics:
    """Calibration statistics of one layer, over all ranks.

    `amax` by quantized linear or KV quantizer; for the same quantizers `curve` [marks, quantizers] is the
    running amax, `datasets` [datasets, quantizers] the amax over each dataset alone, and `natural`
    [quantizers] the amax over naturally routed tokens. `routed` [datasets, experts] and `forced` [experts]
    count the positions, padding included, that each expert of a block received.
    """

    amax: dict[str, float]
    curve: list[list[float]]
    datasets: list[list[float]]
    natural: list[float]
    routed: dict[str, list[list[int]]]
    forced: dict[str, list[int]]
    groups: list[tuple[str, ...]]
    biases: dict[str, dict[str, torch.Tensor]]


def exported_amaxes(statistics: LayerStatistics, layer: Layer, coverage: str) -> dict[str, float]:
    """The amax that each quantizer is exported with: `statistics.amax`, shared where ModelOpt shares it.

    Raises:
        Stop: naming the first quantizer without a finite, positive amax.
    """
    for name, value in statistics.amax.items():
        if not isfinite(value):  # before sharing, where a maximum could hide it
            raise Stop(f"{quantizer_name(name)} has amax {value} after calibration: its input is not finite")
    amax = statistics.amax
    if coverage == "natural":
        for block in layer.blocks:
            first = block.experts[0] + "."
            parts = [name.removeprefix(first) for name in amax if name.startswith(first)]
            amax = nvfp4.shared_amaxes(
                amax, [tuple(f"{e}.{part}" for e in block.experts) for part in sorted(parts)]
            )
    for name, value in amax.items():
        if value <= 0:
            raise Stop(
                f"{quantizer_name(name)} has amax {value} after calibration: it got no input, or only zeros"
            )
    return nvfp4.shared_amaxes(amax, statistics.groups)


def input_scales(amax: dict[str, float], linears: Iterable[str]) -> Tensors:
    """The input scale of each linear, float32. Raises Stop with its name when its amax is unusable."""
    for name in linears:
        yield f"{name}.input_scale", named(name, partial(nvfp4.input_scale, amax[name]))


def kv_scales(amax: dict[str, float], layer: Layer, biases: dict[str, dict[str, torch.Tensor]]) -> Tensors:
    """Scales of keys and values, float32, and their affine biases, if any."""
    for name in layer.attentions:
        for kind in "kv":
            scale = named(name, partial(nvfp4.kv_scale, amax[f"{name}.{kind}_bmm_quantizer"]))
            yield f"{name}.{kind}_proj.{kind}_scale", scale
            if kind in biases[name]:
                yield f"{name}.{kind}_proj.{kind}_bias", raw(biases[name][kind])


def quantizer_name(name: str) -> str:
    """The full name of a KV quantizer, or of a linear's input quantizer."""
    return name if name.endswith("_bmm_quantizer") else f"{name}.input_quantizer"


class LayerCalibration:
    """Runs batches through the layer that is loaded in `stepper`; calls `progress` after each batch."""

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
        self._crew, self._excerpts = Crew(stepper.device), Excerpts()
        self._positions = sum(batch.input_ids.size for batch in batches)

    def probe(self, index: int, hidden: Hidden) -> Probe:
        """What two tokens through layer `index` show, which must be loaded."""
        with urgent(self._stepper.device):
            return probed(self._stepper, self._structure.layers[index], index, hidden)

    def run(
        self, index: int, hidden: Hidden, probe: Probe, under_way: Callable[[], None] = lambda: None
    ) -> LayerStatistics:
        """Statistics of the layer that was probed; writes the next layer's input to `hidden`.

        Calls `under_way` after the first batches, the ones that take the host longer than a GPU.
        """
        with urgent(self._stepper.device):
            return self._statistics(index, hidden, probe, under_way)

    def _statistics(
        self, index: int, hidden: Hidden, probe: Probe, under_way: Callable[[], None]
    ) -> LayerStatistics:
        layer = self._structure.layers[index]
        everywhere = self._config.coverage.name == "all_experts"
        screened = self._config.hardware.screen == "auto"
        blocks = learned(
            self._stepper, self._crew, layer, index, hidden, self._batches[0],
            forced=self._config.coverage.name != "natural",
        )  # fmt: skip
        forced = [
            Forced(
                block, self._stepper.modules, probe, self._excerpts, one.raised,
                screened=screened and one.gated is not None,
            )
            for block, one in zip(layer.blocks, blocks, strict=True)
        ]  # fmt: skip
        forced_experts = {block.name: block.experts if everywhere else () for block in layer.blocks}
        quantizers = {name: self._structure.kv_quantizers(name) for name in layer.attentions}
        with collecting_kv(self._stepper.modules, quantizers):
            by_stretch, rows = self._pass(
                index, hidden, blocks, forced, forced_experts, quantizers, under_way, routed=True
            )
        if self._config.coverage.name == "top_up":
            minimum = self._config.coverage.minimum_tokens
            assert minimum is not None
            seen = dict(zip(layer.experts(), rows.sum(dim=0).tolist(), strict=True))
            forced_experts = {
                block.name: tuple(expert for expert in block.experts if seen[expert] < minimum)
                for block in layer.blocks
            }
            if any(forced_experts.values()):
                forced_amaxes, _ = self._pass(
                    index, hidden, blocks, forced, forced_experts, quantizers, lambda: None, routed=False
                )
                by_stretch = torch.maximum(by_stretch, forced_amaxes)
        names = layer.linears + [f"{name}.{kind}" for name in layer.attentions for kind in KV]
        every, both = by_stretch.amax(dim=1), by_stretch.amax(dim=0)
        routed = dict(zip(layer.experts(), sums_by_dataset(rows, self._batches).T.tolist(), strict=True))
        return LayerStatistics(
            amax=dict(zip(names, every.amax(dim=0).tolist(), strict=True)),
            curve=running(every, self._batches).tolist(),
            datasets=by_dataset(every, self._batches).tolist(),
            natural=both[ROUTED].tolist(),
            routed={
                b.name: [list(counts) for counts in zip(*(routed[e] for e in b.experts), strict=True)]
                for b in layer.blocks
            },
            forced={
                b.name: [self._positions * (expert in forced_experts[b.name]) for expert in b.experts]
                for b in layer.blocks
            },
            groups=probe.groups(),
            biases={name: _biases(pair) for name, pair in quantizers.items()},
        )

    def _pass(
        self,
        index: int,
        hidden: Hidden,
        blocks: list[Routed],
        forced: list[Forced],
        forced_experts: dict[str, tuple[str, ...]],
        quantizers: dict[str, tuple[Any, Any]],
        under_way: Callable[[], None],
        routed: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run every batch once: as the router sends it when `routed`, then through `forced_experts`.

        Returns the amax of each stretch, float32 [stretches, 2, quantizers], routed and forced; and the rows
        that the router sent to each expert, int64 [stretches, experts].
        """
        layer = self._structure.layers[index]
        modules = self._stepper.modules
        observer = Observer(layer, self._stepper.device)
        routed_linears = frozenset(layer.linears) if routed else frozenset()
        owners = layer.owners()
        within = {
            block: {name for name, expert in owners.items() if expert in experts}
            for block, experts in forced_experts.items()
        }
        rows = dict.fromkeys(layer.experts(), 0)
        inputs: dict[str, torch.Tensor] = {}
        amaxes: list[torch.Tensor] = []
        counts: list[list[int]] = []
        due = stretches(self._batches)
        screened = self._config.hardware.screen == "auto" and any(forced_experts.values())
        to_tell = self._ranks if screened else Ranks()  # only a screen asks what is recorded

        def force(call: Callable[[Forced, tuple[str, ...]], None]) -> None:
            for one in forced:
                if experts := forced_experts[one.block.name]:
                    observer.only = within[one.block.name]
                    call(one, experts)
                    observer.flush(FORCED)

        def note(before: int) -> None:
            while due and due[0].last < before:
                force(lambda one, _: one.drain())
                amaxes.append(torch.cat([observer.take(due.pop(0).dataset), _take_kv(quantizers)], dim=1))
                counts.append(list(rows.values()))
                rows.update(dict.fromkeys(rows, 0))

        def count(expert: str, values: torch.Tensor) -> None:
            rows[expert] += counting * (values.numel() // values.shape[-1])

        with ExitStack() as stack:
            stack.enter_context(watching(modules, layer.linears, observer.see))
            stack.enter_context(watching(modules, rows, count))
            stack.enter_context(watching(modules, [block.name for block in layer.blocks], inputs.__setitem__))
            traffic = stack.enter_context(Traffic(hidden, index, self._stepper.device))
            others = stack.enter_context(Sharing(to_tell, self._batches, observer))
            mine = self._ranks.share(len(self._batches))
            for number, states in traffic.inputs(mine):
                if number in mine[_FIRST : _FIRST + 1]:
                    under_way()
                note(number)
                others.hear()
                observer.only = routed_linears
                counting = True
                with taking_over(blocks, Watch(rows, observer.note_all)):
                    output = self._stepper.run(
                        states, self._batches[number], self._config.calibration.attention_mask
                    )
                counting = False
                if routed and index < len(self._structure.layers) - 1:
                    traffic.send(number, output)
                observer.flush(ROUTED)
                observer.dataset = due[0].dataset
                force(lambda one, experts: one.run(inputs[one.block.name], experts, observer))
                others.tell()
                self._progress(self._batches[number])
            traffic.finish()
            others.finish()
            note(len(self._batches))  # still watching: what was left open is run here
        return self._over_ranks(torch.stack(amaxes), torch.tensor(counts, dtype=torch.int64))

    def _over_ranks(self, amaxes: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        everywhere, total = amaxes.to(self._stepper.device), counts.to(self._stepper.device)
        self._ranks.largest(everywhere)
        self._ranks.total(total)
        return everywhere.cpu(), total.cpu()


def _take_kv(quantizers: dict[str, tuple[Any, Any]]) -> torch.Tensor:
    """Amax of keys and values since the last call, float32 [2, quantizers], 0 without any input.

    The row `FORCED` stays 0: attentions have no forced pass.
    """
    amaxes = [_take_amax(quantizer) for pair in quantizers.values() for quantizer in pair]
    routed = torch.tensor(amaxes, dtype=torch.float32)
    return torch.stack([routed, torch.zeros_like(routed)])


def _take_amax(quantizer: Any) -> float:
    if quantizer._use_constant_amax:
        return CONSTANT_AMAX
    amax = quantizer._calibrator.compute_amax()
    quantizer._calibrator.reset()
    return 0.0 if amax is None else float(amax)


def _biases(pair: tuple[Any, Any]) -> dict[str, torch.Tensor]:
    biases = {}
    for kind, quantizer in zip("kv", pair, strict=True):
        if quantizer.bias_calibrator is not None:
            biases[kind] = quantizer.bias_calibrator.compute_bias().cpu()
    return biases
