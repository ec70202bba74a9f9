"""One layer at a time gives what the whole model gives, bit for bit."""

from collections.abc import Callable

import torch
from quantize.layerwise.conftest import batch

from proofcard.quantize.layerwise.stepper import Stepper


def reference(whole: torch.nn.Module) -> list[torch.Tensor]:
    """Inputs of every layer, and the last one's output."""
    seen: list[torch.Tensor] = []
    layers = whole.get_decoder().layers
    hooks = [one.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for one in layers]
    hooks.append(layers[-1].register_forward_hook(lambda _, __, out: seen.append(_first(out))))
    ids, mask = (torch.from_numpy(value) for value in (batch().input_ids, batch().attention_mask))
    with torch.no_grad():
        whole(input_ids=ids, attention_mask=mask, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def _first(output: object) -> torch.Tensor:
    first = output[0] if isinstance(output, tuple) else output
    assert isinstance(first, torch.Tensor)
    return first


def test_each_layer_gives_the_bits_of_the_whole_model(
    whole: torch.nn.Module, loading: Callable[[int], Stepper]
) -> None:
    states = reference(whole)
    with torch.no_grad():
        for index in range(3):
            stepper = loading(index)
            answer = stepper.run(states[index] if index else None, batch(), attention_mask=True)
            assert torch.equal(answer, states[index + 1])


def test_only_one_layer_has_weights(loading: Callable[[int], Stepper]) -> None:
    for index in (0, 2):
        stepper = loading(index)
        real = {
            name.split(".")[2]
            for name, module in stepper.modules.items()
            if name.startswith("model.layers.")
            and any(not value.is_meta for value in module.parameters(recurse=False))
        }
        assert real == {str(index)}
        assert all(name.startswith(f"model.layers.{index}.") for name in stepper.weights())
    stepper.clear()
    assert all(value.is_meta for value in stepper.modules["model.layers"].parameters())
