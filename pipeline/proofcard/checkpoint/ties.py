"""Tied embeddings: input embedding and output head share one tensor, and only one of them may be stored.

They count as tied only if the source ties them, by its flag or its class's default, and, if it stores both,
both are equal. Without a source the checkpoint's own configuration decides in the same way.
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
    """Whether input embedding and output head are tied; `contradicted`: declared as tied, but different."""

    tied: bool
    contradicted: bool = False

    def partner(self, name: str, names: Iterable[str]) -> str | None:
        """The one of `names` that can replace a missing `name`; None if `name` itself is required."""
        if not self.tied or _numbered(name) or not name.endswith(".weight"):
            return None
        module, (first, last) = _module(name), pair(names)
        if module in INPUT:
            return last
        return first if module in OUTPUT else None

    def modules(self, names: Iterable[str]) -> set[str]:
        """Modules without a tensor among `names` because they are tied."""
        first, last = pair(names)
        if not self.tied or first is None or last is not None:
            return set()
        outer = first.removesuffix(".weight").rpartition(".")[0].removesuffix("model")
        return {"lm_head", f"{outer}lm_head"}


def of_source(source: Source) -> Ties:
    """The ties of a source, as declared and stored."""
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
    """Raise Stop for a source that declares tied embeddings but stores two different tensors."""
    if of_source(source).contradicted:
        first, last = pair(source.weights())
        raise Stop(
            f"{source.path} declares tied embeddings (tie_word_embeddings, or its class's default), but its "
            f"{last} differs from its {first}: one of them would be lost; set tie_word_embeddings to false "
            f"in its config.json, or remove {last}"
        )


def of_checkpoint(config: defaults.Config, folder: Path, tensors: dict[str, Tensor]) -> Ties:
    """The ties of a checkpoint without its source."""
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
    """The names of the input embedding and output head: the shortest outside all numbered layers."""
    outside = [name for name in names if name.endswith(".weight") and not _numbered(name)]

    def shortest(known: tuple[str, ...]) -> str | None:
        candidates = [name for name in outside if _module(name) in known]
        return min(candidates, key=lambda name: (_other_tower(name), name.count("."), name), default=None)

    return shortest(INPUT), shortest(OUTPUT)


def _module(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[2]


def _numbered(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def _other_tower(name: str) -> bool:
    return any(word in name for word in ("vision", "visual", "audio", "speech"))
