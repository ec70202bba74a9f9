"""Runs two tokens through a layer to learn its structure before any sample."""

from contextlib import ExitStack

import numpy as np
import torch

from proofcard.calibration.batches import Batch
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.hooks import intercepted, watching
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import Block, Layer

KV = ("k_bmm_quantizer", "v_bmm_quantizer")
_TWO_TOKENS = Batch(np.ones((1, 2), np.int64), np.ones((1, 2), np.int64))


def kv_shapes(stepper: Stepper, layer: Layer, index: int) -> dict[str, tuple[int, ...]]:
    """Shape of the affine biases of a layer's keys and values: a mean over samples and tokens."""
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as stack:
        for name in layer.attentions:
            seen = [lambda x, kind=kind: shapes.update({kind: (1, x.shape[1], 1, x.shape[3])}) for kind in KV]
            stack.enter_context(intercepted(stepper.modules[name], *seen))
        embedding = stepper.modules[stepper.embedding].weight
        states = torch.zeros((1, 2, embedding.shape[1]), dtype=embedding.dtype) if index else None
        stepper.run(states, _TWO_TOKENS, attention_mask=False)
    return shapes


def probed(stepper: Stepper, layer: Layer, index: int, hidden: Hidden) -> "Probe":
    """Probe a layer with the first two tokens of its input."""
    probe = Probe(layer)
    with watching(stepper.modules, layer.linears + layer.experts(), probe.see):
        states = hidden.read(index, 0)[:1, :2] if index else None
        stepper.run(states, _TWO_TOKENS, attention_mask=False)
    return probe


class Probe:
    """What two tokens through a layer show: which linears share an input, and which run last.

    ModelOpt's export does the same with a forward pass of two tokens, and gives linears with the same input
    tensor one amax, for inputs and for weights (`requantize_resmooth_fused_llm_layers`); groups of one expert
    apply to all.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._linears = set(layer.linears)
        self._calls: list[tuple[str, torch.Tensor]] = []

    def see(self, name: str, values: torch.Tensor) -> None:
        """Record that a linear or an expert got `values`; holding them keeps their ids distinct."""
        self._calls.append((name, values))

    def groups(self) -> list[tuple[str, ...]]:
        """Groups of linears that share an input, by full name, each of at least two."""
        by_input: dict[int, list[str]] = {}
        for name, values in self._calls:
            if name in self._linears:
                by_input.setdefault(id(values), []).append(name)
        matches = {tuple(names) for names in by_input.values() if len(names) > 1}
        for names in sorted(matches):
            for block in self._layer.blocks:
                owner = _home(names[0], block)
                if owner is not None:
                    for expert in block.experts:
                        matches.add(tuple(expert + name.removeprefix(owner) for name in names))
        return sorted(names for names in matches if self._linears.issuperset(names))

    def last(self, block: Block) -> set[str]:
        """The linear that runs last in each expert."""
        inside = self._inside(block)
        return {expert + inside[-1][1] for expert in block.experts} if inside else set()

    def whole(self, block: Block) -> set[str]:
        """The linears in each expert whose input is the expert's input."""
        inputs = {name: values for name, values in self._calls if name in block.experts}
        local = {part for owner, part, values in self._inside(block) if values is inputs.get(owner)}
        return {expert + part for expert in block.experts for part in local}

    def _inside(self, block: Block) -> list[tuple[str, str, torch.Tensor]]:
        """Expert, name within it and input of every call of a linear of an expert, in order."""
        matches = []
        for name, values in self._calls:
            owner = _home(name, block)
            if owner is not None and name in self._linears:
                matches.append((owner, name.removeprefix(owner), values))
        return matches


def _home(name: str, block: Block) -> str | None:
    return next((expert for expert in block.experts if name.startswith(expert + ".")), None)
