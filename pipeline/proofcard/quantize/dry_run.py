"""A forward pass on tensors with shapes but no data: sizes that do not match fail before any sample is used.

torch's fake tensors follow every operation. Where an outcome depends on data (which expert gets a token) the
dry run ends without a result; attention and routing come before that.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from proofcard.errors import Stop, one_line

_TOKENS = (2, 8)  # samples, tokens
# torch's messages about mismatched shapes. Other errors may come from the dry run itself.
_SHAPES = re.compile(
    r"size of tensor|must match|shapes? .*(invalid|cannot)|k not in range|out of range|expand|broadcast"
    r"|split_with_sizes|Split sizes|is invalid for input|normalized_shape|Expected size"
)


def check(model: Any, where: str) -> None:
    """Run two short samples through one decoder layer of each kind. `model` comes from `skeleton`.

    Raises:
        Stop: when sizes in its configuration, the file `where`, do not match each other.
    """
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        return
    try:
        decoder.layers = torch.nn.ModuleList(one_of_each_kind(layers))
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _without_content(decoder):
            tokens = torch.zeros(_TOKENS, dtype=torch.long)
            decoder(input_ids=tokens, use_cache=False)
            decoder(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    except (UnboundLocalError, ZeroDivisionError, KeyError) as error:
        raise Stop(f"{where}: {type(model).__name__} fails on it: {one_line(error)[:200]}") from None
    except Exception as error:
        if type(error) is RuntimeError and _SHAPES.search(str(error)):
            detail = one_line(error)[:200]
            raise Stop(f"{where}: its sizes do not match each other: {detail}") from None
    finally:
        decoder.layers = layers


def one_of_each_kind(layers: Iterable[Any]) -> list[Any]:
    """The first layer of each distinct set of modules and weight shapes."""
    kinds: dict[tuple[Any, ...], Any] = {}
    for layer in layers:
        kinds.setdefault(tuple(_kind(layer)), layer)
    return list(kinds.values())


def _kind(layer: Any) -> Iterator[Any]:
    for name, module in layer.named_modules():
        yield name, type(module), *(tuple(value.shape) for value in module.parameters(recurse=False))


@contextmanager
def _without_content(decoder: Any) -> Iterator[None]:
    """Replace every parameter and buffer by a fake tensor on the CPU; restore them afterwards."""
    tables = [table for module in decoder.modules() for table in (module._parameters, module._buffers)]
    saved = [(slots, dict(slots)) for slots in tables]
    try:
        for slots, values in saved:
            for name, value in values.items():
                if value is not None:
                    empty = torch.empty(value.shape, dtype=value.dtype)
                    parameter = isinstance(value, torch.nn.Parameter)
                    slots[name] = torch.nn.Parameter(empty, requires_grad=False) if parameter else empty
        yield
    finally:
        for slots, values in saved:
            slots.update(values)
