"""Tied embeddings: an input embedding and an output head that are one tensor, of which one may be stored.

They count as tied only where the source says so, by its flag or its class's default, and, if it stores both,
where both are equal. Without a source the checkpoint's own word is taken, and both stored must be equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proofcard.checkpoint import defaults
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.errors import Stop

INPUT = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings")
OUTPUT = ("lm_head", "embed_out", "output")

_SLICE = 1 << 24  # bytes compared at a time


@dataclass(frozen=True)
class Ties:
    """Whether input embedding and output head are one tensor; `contradicted`: said so, and both differ."""

    tied: bool
    contradicted: bool = False

    def partner(self, name: str, names: Iterable[str]) -> str | None:
        """The one of `names` that may stand for `name`; None where `name` must be there itself."""
        if not self.tied or _numbered(name) or not name.endswith(".weight"):
            return None
        module, (first, last) = _module(name), pair(names)
        if module in INPUT:
            return last
        return first if module in OUTPUT else None

    def modules(self, names: Iterable[str]) -> set[str]:
        """Modules that have no tensor of their own among `names` because of it."""
        first, last = pair(names)
        if not self.tied or first is None or last is not None:
            return set()
        outer = first.removesuffix(".weight").rpartition(".")[0].removesuffix("model")
        return {"lm_head", f"{outer}lm_head"}


def of_source(source: Source) -> Ties:
    """As the source says and stores it."""
    if not defaults.tied(source.config, source.path):
        return Ties(False)
    first, last = pair(source.weights())
    if first is None or last is None:
        return Ties(True)
    if source.is_fp8(first) or source.is_fp8(last):
        same = bool(np.array_equal(source.bits(first), source.bits(last)))
    else:
        same = equal(source.stored(first), source.stored(last))
    return Ties(same, contradicted=not same)


def check(source: Source) -> None:
    """Raises Stop for a source that says its embeddings are one tensor and stores two that differ."""
    if of_source(source).contradicted:
        first, last = pair(source.weights())
        raise Stop(
            f"{source.path} says that its embeddings are tied (tie_word_embeddings, or its class's default), "
            f"and its {last} is not its {first}: one of them would be lost; set tie_word_embeddings to false "
            f"in its config.json, or take {last} out"
        )


def of_checkpoint(config: defaults.Config, folder: Path, tensors: dict[str, Tensor]) -> Ties:
    """As the checkpoint says it, for want of a source."""
    if not defaults.tied(config, folder):
        return Ties(False)
    first, last = pair(tensors)
    if first is None or last is None:
        return Ties(True)
    same = equal(tensors[first], tensors[last])
    return Ties(same, contradicted=not same)


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and bytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    left, right = one.raw(), other.raw()
    return all(
        np.array_equal(left[at : at + _SLICE], right[at : at + _SLICE]) for at in range(0, left.size, _SLICE)
    )


def pair(names: Iterable[str]) -> tuple[str | None, str | None]:
    """The model's input embedding and output head, by name: outside every numbered layer, the shortest."""
    outside = [name for name in names if name.endswith(".weight") and not _numbered(name)]

    def shortest(known: tuple[str, ...]) -> str | None:
        chosen = [name for name in outside if _module(name) in known]
        return min(chosen, key=lambda name: (_other_tower(name), name.count("."), name), default=None)

    return shortest(INPUT), shortest(OUTPUT)


def _module(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[2]


def _numbered(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def _other_tower(name: str) -> bool:
    return any(word in name for word in ("vision", "visual", "audio", "speech"))
