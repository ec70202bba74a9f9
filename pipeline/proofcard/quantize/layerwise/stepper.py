"""Runs one decoder layer inside its model's own forward pass, skipping the other layers."""

from typing import Any

import torch

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.quantize.layerwise.intake import Intake
from proofcard.quantize.model import tensor


class _Done(Exception):
    """Raised once the layer has returned, to skip the rest of the model."""


class Stepper:
    """A model on the meta device with the weights of one layer at a time.

    The mask, the rotary embedding and whatever else the model passes to its layers come from the model's own
    forward pass, which starts with the layer's input in place of embeddings and is left after the layer.
    """

    def __init__(
        self, source: Source, bare: Any, prefix: str, device: torch.device, intake: Intake | None = None
    ) -> None:
        """`bare` is `skeleton`'s model, `prefix` the full name of its list of layers, `layers` long.

        `intake` reads weights onto a GPU; without one they are read as a source's are.
        """
        self.device = device
        self._source = source
        self.model, self._decoder = bare, bare.get_decoder()
        self._layers = self._decoder.layers
        self.prefix, self.layers = prefix, len(self._layers)
        self.modules: dict[str, Any] = dict(bare.named_modules())
        self._embedding = bare.get_input_embeddings()
        self.embedding = next(n for n, module in self.modules.items() if module is self._embedding)
        self._loaded: int | None = None
        self._intake = intake or (Intake(source, device) if device.type == "cuda" else None)
        outside = [module for name, module in self.modules.items() if not name.startswith(prefix + ".")]
        for module in outside:
            _move_buffers(module, device)

    def read(self, index: int) -> dict[str, torch.Tensor]:
        """The weights of a layer on the device, FP8 dequantized."""
        start = f"{self.prefix}.{index}."
        names = [name for name in self._source.weights() if name.startswith(start)]
        if self._intake is not None:
            return self._intake.read(names)
        return {name: tensor(self._source, name) for name in names}

    def load(self, index: int, weights: dict[str, torch.Tensor]) -> None:
        """Load the weights of layer `index`, and free those of the layer loaded before."""
        self.clear()
        layer = self._layers[index]
        start = len(f"{self.prefix}.{index}.")
        layer.load_state_dict({name[start:]: weight for name, weight in weights.items()}, assign=True)
        for module in layer.modules():
            _move_buffers(module, self.device)
        layer.requires_grad_(False)
        if index == 0:
            words = tensor(self._source, f"{self.embedding}.weight").to(self.device)
            self._embedding.load_state_dict({"weight": words}, assign=True)
            self._embedding.requires_grad_(False)
        self._decoder.layers = torch.nn.ModuleList([layer])
        self._loaded = index

    def weights(self) -> dict[str, torch.Tensor]:
        """The loaded layer's weights by full name."""
        start = f"{self.prefix}.{self._loaded}."
        return {start + name: weight for name, weight in self._decoder.layers[0].state_dict().items()}

    def clear(self) -> None:
        """Free the loaded weights, once the work queued on them is done."""
        if self._loaded is not None:
            if self._intake is not None:
                # The next layer is copied on another stream.
                torch.cuda.current_stream(self.device).synchronize()
            for part in (self._layers[self._loaded], self._embedding):
                for module in part.modules():
                    for name, parameter in module._parameters.items():
                        if parameter is not None:
                            empty = torch.empty_like(parameter, device="meta")
                            module._parameters[name] = torch.nn.Parameter(empty, requires_grad=False)
        self._loaded = None

    def load_head(self) -> None:
        """Load the weights of what comes after the layers: the last norm, the output head."""
        start, words = f"{self.prefix}.", f"{self.embedding}.weight"
        known, tied = self.model.state_dict().keys(), self.model.config.tie_word_embeddings
        for name in self._source.weights():
            if name in known and not name.startswith(start) and (tied or name != words):
                owner, _, leaf = name.rpartition(".")
                weight = tensor(self._source, name).to(self.device)
                self.modules[owner].load_state_dict({leaf: weight}, strict=False, assign=True)
                self.modules[owner].requires_grad_(False)
        if tied:
            self.model.get_output_embeddings().weight = self._embedding.weight

    def run(self, states: torch.Tensor | None, batch: Batch, attention_mask: bool) -> torch.Tensor:
        """The loaded layer's output [samples, tokens, width]; `states` is its input, None for layer 0."""
        return self.through(states, batch, attention_mask)[0]

    def through(
        self, states: torch.Tensor | None, batch: Batch, attention_mask: bool, to_logits: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `run`; with `to_logits` also the logits [samples · tokens, vocabulary], after `load_head`."""
        layer = self._decoder.layers[0]
        answer: list[torch.Tensor] = []

        def enter(_: Any, args: Any, named: Any) -> Any:
            if states is None:
                return None
            if "hidden_states" in named:
                return args, named | {"hidden_states": on_device}
            return (on_device, *args[1:]), named

        def leave(_: Any, args: Any, output: Any) -> None:
            answer.append(output[0] if isinstance(output, tuple) else output)
            if not to_logits:
                raise _Done

        inputs: dict[str, Any] = {"use_cache": False}
        if states is None:
            inputs["input_ids"] = torch.from_numpy(batch.input_ids).to(self.device)
        else:
            on_device = states.to(self.device)
            inputs["inputs_embeds"] = on_device
        if attention_mask:
            inputs["attention_mask"] = torch.from_numpy(batch.attention_mask).to(self.device)
        hooks = [
            layer.register_forward_pre_hook(enter, with_kwargs=True),
            layer.register_forward_hook(leave),
        ]
        logits = None
        try:
            if to_logits:
                logits = self.model(**inputs).logits.flatten(0, 1)
            else:
                self._decoder(**inputs)
        except _Done:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return answer[0], logits


def _move_buffers(module: Any, device: torch.device) -> None:
    for name, buffer in module._buffers.items():
        if buffer is not None and not buffer.is_meta:
            module._buffers[name] = buffer.to(device)
