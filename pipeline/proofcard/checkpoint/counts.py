"""Checks the counts in a config.json against the tensors, since loops run that many times."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from proofcard.checkpoint.tensors import Tensor
from proofcard.errors import Stop
from proofcard.files import plain

_LAYERS = re.compile(r"(?!max_)(\w+_)?(layers?|modules|blocks)|depth")
_EXPERTS = re.compile(r"(?!max_)(\w+_)?experts")
_MOST_LAYERS, _MOST_EXPERTS, _MOST_TOGETHER = 2_000, 20_000, 200_000  # Kimi K2 has 61 times 384
_FEW_LAYERS, _FEW_EXPERTS = 100, 256  # counts up to these are harmless in any case


def check_counts(config: dict[str, Any], path: Path, tensors: Iterable[Tensor] | None) -> None:
    """Check the numbers of layers and experts, at any depth of a configuration, against the tensors.

    Each layer has at least one tensor; each expert has one, or a row of one. Without tensors, as for a plan
    from a config.json alone, only generous absolute limits apply.

    Raises:
        Stop: naming the key whose number is too large.
    """
    layers, experts = _MOST_LAYERS, _MOST_EXPERTS
    if tensors is not None:
        sizes = [max(tensor.shape, default=1) for tensor in tensors if tensor.size]
        layers = min(layers, max(_FEW_LAYERS, len(sizes)))
        experts = min(experts, max(_FEW_EXPERTS, len(sizes), max(sizes, default=0)))
    largest = {_LAYERS: 1, _EXPERTS: 1}
    for key, number in _numbers(config):
        for pattern, limit in ((_LAYERS, layers), (_EXPERTS, experts)):
            if pattern.fullmatch(key):
                largest[pattern] = max(largest[pattern], number)
                other = _MOST_TOGETHER // largest[_EXPERTS if pattern is _LAYERS else _LAYERS]
                if number > min(limit, other):
                    raise Stop(
                        f"config.json of {plain(path)} has {key}={plain(number, 40)}, "
                        f"but its tensors allow at most {min(limit, other):,}"
                    )


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif type(value) is int:
            yield key, value
