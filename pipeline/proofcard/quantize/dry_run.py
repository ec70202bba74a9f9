"""A model's forward with tensors that have a shape and no content: what cannot fit shows before any sample.

torch's fake tensors follow every operation. Where an outcome depends on content (which expert takes a token)
the attempt ends, and nothing more is known; attention and routing come before.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from proofcard.errors import Stop, one_line

_TOKENS = (2, 8)  # samples, tokens
# What torch says of shapes that do not go together. Other errors may be of the attempt itself.
_SHAPES = re.compile(
    r"size of tensor|must match|shapes? .*(invalid|cannot)|k not in range|out of range|expand|broadcast"
    r"|split_with_sizes|Split sizes|is invalid for input|normalized_shape|Expected size"
)


def check(model: Any, where: str) -> None:
    """Run two short samples through one decoder layer of each kind. `model` is as `skeleton` gives it.

    Raises:
        Stop: when values of its configuration, the file `where`, do not go together.
    """
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        return
    try:
        decoder.layers = torch.nn.ModuleList(one_of_each_kind(layers))
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _without_content(decoder):
            words = torch.zeros(_TOKENS, dtype=torch.long)
            decoder(input_ids=words, use_cache=False)
            decoder(input_ids=words, attention_mask=torch.ones_like(words), use_cache=False)
    except (UnboundLocalError, ZeroDivisionError, KeyError) as error:
        raise Stop(f"{where}: {type(model).__name__} fails on it: {one_line(error)[:200]}") from None
    except Exception as error:
        if type(error) is RuntimeError and _SHAPES.search(str(error)):
            said = one_line(error)[:200]
            raise Stop(f"{where}: its widths and counts do not go together: {said}") from None
    finally:
        decoder.layers = layers


def one_of_each_kind(layers: Iterable[Any]) -> list[Any]:
    """The layers whose modules and weights are not like those of one before."""
    kinds: dict[tuple[Any, ...], Any] = {}
    for layer in layers:
        kinds.setdefault(tuple(_kind(layer)), layer)
    return list(kinds.values())


def _kind(layer: Any) -> Iterator[Any]:
    for name, module in layer.named_modules():
        yield name, type(module), *(tuple(value.shape) for value in module.parameters(recurse=False))


@contextmanager
def _without_content(decoder: Any) -> Iterator[None]:
    """Every parameter and buffer as a fake tensor on the CPU; they are themselves again afterwards."""
    kept = [
        (held, dict(held)) for module in decoder.modules() for held in (module._parameters, module._buffers)
    ]
    try:
        for held, values in kept:
            for name, value in values.items():
                if value is not None:
                    empty = torch.empty(value.shape, dtype=value.dtype)
                    parameter = isinstance(value, torch.nn.Parameter)
                    held[name] = torch.nn.Parameter(empty, requires_grad=False) if parameter else empty
        yield
    finally:
        for held, values in kept:
            held.update(values)
