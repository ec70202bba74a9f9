"""Two tokens through a layer: what can be learned of it before any sample."""

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
        words = stepper.modules[stepper.embedding].weight
        states = torch.zeros((1, 2, words.shape[1]), dtype=words.dtype) if index else None
        stepper.run(states, _TWO_TOKENS, attention_mask=False)
    return shapes


def probed(stepper: Stepper, layer: Layer, index: int, hidden: Hidden) -> "Probe":
    """What the first two tokens of the layer's own input show of it."""
    probe = Probe(layer)
    with watching(stepper.modules, layer.linears + layer.experts(), probe.see):
        states = hidden.read(index, 0)[:1, :2] if index else None
        stepper.run(states, _TWO_TOKENS, attention_mask=False)
    return probe


class Probe:
    """What two tokens through a layer tell: which linears share an input, and which come last.

    ModelOpt's export does the same with a forward of two tokens, and gives linears that got one tensor one
    amax, of inputs and of weights (`requantize_resmooth_fused_llm_layers`); what it finds for one expert it
    applies to all.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._linears = set(layer.linears)
        self._calls: list[tuple[str, torch.Tensor]] = []

    def see(self, name: str, values: torch.Tensor) -> None:
        """Note that a linear or an expert got `values`; kept, so that no two tensors have one identity."""
        self._calls.append((name, values))

    def groups(self) -> list[tuple[str, ...]]:
        """Linears that share an input, as full names; a linear by itself is in none."""
        together: dict[int, list[str]] = {}
        for name, values in self._calls:
            if name in self._linears:
                together.setdefault(id(values), []).append(name)
        found = {tuple(names) for names in together.values() if len(names) > 1}
        for names in sorted(found):
            for block in self._layer.blocks:
                home = _home(names[0], block)
                if home is not None:
                    for expert in block.experts:
                        found.add(tuple(expert + name.removeprefix(home) for name in names))
        return sorted(names for names in found if self._linears.issuperset(names))

    def last(self, block: Block) -> set[str]:
        """Of each expert, the linear that is called last."""
        inside = self._inside(block)
        return {expert + inside[-1][1] for expert in block.experts} if inside else set()

    def whole(self, block: Block) -> set[str]:
        """Of each expert, the linears whose input is the expert's own."""
        inputs = {name: values for name, values in self._calls if name in block.experts}
        local = {part for home, part, values in self._inside(block) if values is inputs.get(home)}
        return {expert + part for expert in block.experts for part in local}

    def _inside(self, block: Block) -> list[tuple[str, str, torch.Tensor]]:
        """Expert, name within it and input of every call of a linear of an expert, in order."""
        found = []
        for name, values in self._calls:
            home = _home(name, block)
            if home is not None and name in self._linears:
                found.append((home, name.removeprefix(home), values))
        return found


def _home(name: str, block: Block) -> str | None:
    return next((expert for expert in block.experts if name.startswith(expert + ".")), None)
