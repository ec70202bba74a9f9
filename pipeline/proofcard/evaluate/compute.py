"""One set of weights run a layer at a time, with what low precision does to activations and to the KV cache.

Hooks are registered once for each layer and read the `Precision` of the current run: a real layer has
hundreds of quantized linears.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config.schema import Model
from proofcard.evaluate import rounding
from proofcard.evaluate.apart import Apart
from proofcard.evaluate.intake import PackedIntake
from proofcard.evaluate.weights import Checkpoint
from proofcard.quantize import fit
from proofcard.quantize.layerwise.hooks import through
from proofcard.quantize.layerwise.stepper import Stepper
from proofcard.quantize.layerwise.structure import layers_name
from proofcard.quantize.model import dtype, skeleton

_WITHOUT = "leave the candidates with +kv out"

Rounding = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Routes = dict[str, Any]
"""The output of each mixture of experts' gate, by block: logits, or choices and weights."""


@dataclass(frozen=True)
class Precision:
    """What a run rounds: `activations` to NVFP4; the KV cache as in `candidates.Candidate.kv`."""

    activations: bool = False
    kv: str | None = None


@dataclass
class Answer:
    """A layer's output [1, tokens, width], its routes, and after the last one logits [tokens, vocabulary]."""

    output: torch.Tensor
    routes: Routes = field(default_factory=dict)
    logits: torch.Tensor | None = None


@dataclass(frozen=True)
class LayerParts:
    """The parts of one decoder layer by full name: mixtures of experts with their experts, attentions."""

    blocks: dict[str, tuple[str, ...]]
    attentions: tuple[str, ...]


def layer_parts(modules: Mapping[str, Any], layer: str) -> LayerParts:
    """The parts of `layer` in a model with these modules.

    A block has a `gate` and a list of `experts`; an attention has a cache index and an output projection.
    """
    inside = {name: module for name, module in modules.items() if name.startswith(layer + ".")}
    blocks = {
        name: tuple(f"{name}.experts.{i}" for i in range(len(module.experts)))
        for name, module in inside.items()
        if isinstance(getattr(module, "experts", None), torch.nn.ModuleList) and hasattr(module, "gate")
    }
    attentions = [
        n for n, module in inside.items() if hasattr(module, "layer_idx") and hasattr(module, "o_proj")
    ]
    return LayerParts(blocks, tuple(attentions))


class Compute:
    """A `Stepper` with hooks. `checkpoint` is given where its weights are the checkpoint's.

    `apart` lets texts run together; without one each has to run alone.
    """

    def __init__(self, stepper: Stepper, checkpoint: Checkpoint | None, apart: Apart | None = None) -> None:
        self.stepper = stepper
        self.apart = apart
        self._checkpoint = checkpoint
        self._precision = Precision()
        self._replayed: Routes | None = None
        self._seen: Routes = {}
        self._last: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    @contextmanager
    def hooked(self, inside: LayerParts, linears: list[str], caches: bool = False) -> Iterator[None]:
        """A context to run the loaded layer in: inputs of `linears` can be rounded, and `caches`."""
        modules = self.stepper.modules
        with ExitStack() as stack:
            if self.apart is not None:
                experts = [modules[name] for names in inside.blocks.values() for name in names]
                decoder = self.stepper.model.get_decoder()
                around = [module for module in decoder.children() if module is not decoder.layers]
                around.append(self.stepper.model.get_output_embeddings())
                stack.enter_context(self.apart.arranged(decoder.layers[0], experts, around))
            for block in inside.blocks:
                hook = modules[block].gate.register_forward_hook(partial(self._route, block))
                stack.callback(hook.remove)
            if self._checkpoint is not None:
                for name in linears:
                    scale = torch.tensor(self._checkpoint.input_scale(name), device=self.stepper.device)
                    rounded = rounding.compressed if self._checkpoint.layout(name).divides else rounding.nvfp4
                    hook = modules[name].register_forward_pre_hook(partial(self._round, rounded, scale))
                    stack.callback(hook.remove)
                for name in inside.attentions if caches else ():
                    stack.enter_context(through(modules[name], self._cache(name), _WITHOUT))
            yield
        self._last = None

    def run(
        self, states: torch.Tensor | None, batch: Batch, precision: Precision = Precision(),
        routes: Routes | None = None, to_logits: bool = False,
    ) -> Answer:  # fmt: skip
        """Run the loaded layer, and what comes after it `to_logits`; `routes` replace its own."""
        if self.apart is not None:
            self.apart.of(*batch.input_ids.shape)
        with self.running_at(precision):
            self._replayed, self._seen = routes, {}
            try:
                output, logits = self.stepper.through(
                    states, batch, attention_mask=False, to_logits=to_logits
                )
            finally:
                self._replayed = None
            return Answer(output, self._seen, logits)

    @contextmanager
    def running_at(self, precision: Precision) -> Iterator[None]:
        """A context in which modules of the loaded layer round to a precision, whoever calls them."""
        before, self._precision = self._precision, precision
        try:
            yield
        finally:
            self._precision, self._last = before, None

    def seen(self, block: str) -> Any:
        """The output of a block's gate in the current run; None before it has run."""
        return self._seen.get(block)

    def _route(self, block: str, _: Any, __: Any, answer: Any) -> Any:
        if self._replayed is not None:
            return self._replayed[block]
        self._seen[block] = answer
        return None

    def _round(self, rounded: Rounding, scale: torch.Tensor, _: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
        if not self._precision.activations:
            return None
        values = inputs[0]
        # Gate and up get one tensor and share their scale: it is rounded once.
        if self._last is None or self._last[0] is not values or not torch.equal(self._last[1], scale):
            self._last = (values, scale, rounded(values, scale))
        return (self._last[2], *inputs[1:])

    def _cache(self, attention: str) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Rounds keys and values, both [samples, heads, tokens, channels], as the cache does."""
        assert self._checkpoint is not None
        device = self.stepper.device
        stored = {
            leaf: torch.from_numpy(value.copy() if value.ndim else value.reshape(1)).to(device)
            for leaf, value in self._checkpoint.kv(attention).items()
        }
        one = torch.ones(1, device=device)

        def kept(kind: str, values: torch.Tensor) -> torch.Tensor:
            if self._precision.kv is None:
                return values
            scale = one if self._precision.kv == "kv_one" else stored.get(f"{kind}_scale", one)
            bias = stored.get(f"{kind}_bias") if self._precision.kv == "kv_affine" else None
            if bias is not None:
                bias = bias.view(torch.bfloat16).to(values.dtype)
            return rounding.fp8(values, scale, bias)

        return lambda key, value: (kept("k", key), kept("v", value))


def computes(source: Source, checkpoint: Checkpoint, model: Model, device: str) -> tuple[Compute, Compute]:
    """The model twice, without weights: one for the source's and one for the checkpoint's.

    Raises:
        Stop: when the model cannot be built, or cannot be run layer by layer.
    """
    where = torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
    bare = skeleton(source, model)
    apart = Apart() if device == "cuda" else None
    own = Compute(Stepper(source, bare, layers_name(bare), where), None, apart)
    again = skeleton(source, model)
    readable: Any = checkpoint  # it is read as a source is
    checkpoint.set_dtypes(fit.model_dtypes(readable, again))
    intake = PackedIntake(checkpoint, where) if device == "cuda" else None
    stepper = Stepper(readable, again, layers_name(again), where, intake)
    return own, Compute(stepper, checkpoint, apart)


def hidden_of(source: Source, stepper: Stepper) -> tuple[int, torch.dtype]:
    """Channels and dtype of the hidden states: the embedding's."""
    words = f"{stepper.embedding}.weight"
    return source.tensors[words].shape[1], dtype(source, words)
