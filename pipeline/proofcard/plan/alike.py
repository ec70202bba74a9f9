"""Decoder layers that ModelOpt treats alike, so that one of them is looked at and counted for all.

It inserts its quantizers by the types of modules, and enables them by patterns on their names. Layers of the
same modules, shapes and dtypes therefore get the same, unless a pattern can tell one number from another.
"""

import re
from collections.abc import Iterator
from typing import Any

from proofcard.plan.outline import Outline
from proofcard.plan.portions import Portion

MOST = 4  # kinds of layers, each of which is looked at in a process of its own

_NUMBERLESS = re.compile(r"(?:[^\d?\[\]]|\[[A-Za-z_]+\]|(?<=[A-Za-z_])\d+|\d+(?=[A-Za-z_]))*", re.ASCII)
LISTS = ("quantizers", "linears", "selected", "attentions", "entries")
"""What a portion lists by name."""


def first_alike(layers: Any, prefix: str, outline: Outline, quant_cfg: dict[str, Any]) -> list[int]:
    """For each layer the first one of its kind: itself, for all, where a pattern may tell numbers apart."""
    inside = [pattern for name, own in quant_cfg.items() if name.startswith("nn.") for pattern in own]
    if any(tells_numbers_apart(pattern) for pattern in (*quant_cfg, *inside)):
        return list(range(len(layers)))
    stored: dict[str, list[Any]] = {}
    for name, tensor in outline.tensors.items():
        if name.startswith(prefix + "."):
            index, _, leaf = name[len(prefix) + 1 :].partition(".")
            stored.setdefault(index, []).append((leaf, tensor.dtype, tensor.shape))
    seen: dict[tuple[Any, ...], int] = {}
    return [
        seen.setdefault((*_kind(layer), *sorted(stored.get(str(index), []))), index)
        for index, layer in enumerate(layers)
    ]


def tells_numbers_apart(pattern: str) -> bool:
    """Whether it may match one layer's names and not another's: False only if it cannot.

    A layer's number lies between dots. What matches no part of it leaves it to `*`, whichever number it is:
    letters and sets of them, and digits beside a letter (`conv1d`). `?`, ranges and negated sets may match.
    """
    return _NUMBERLESS.fullmatch(pattern) is None


def for_layer(portion: Portion, prefix: str, looked_at: int, layer: int) -> Portion:
    """The portion of one layer, as that of another of its kind."""
    if looked_at == layer:
        return portion
    before, after = f"{prefix}.{looked_at}.", f"{prefix}.{layer}."
    lists = {
        what: [
            [after + name[len(before) :], *rest] for name, *rest in portion[what] if name.startswith(before)
        ]
        for what in LISTS
    }
    return portion | lists


def _kind(layer: Any) -> Iterator[Any]:
    for name, module in layer.named_modules():
        own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        yield name, type(module), *((leaf, value.dtype, tuple(value.shape)) for leaf, value in own)
