"""The steps of level `weights`: which tensors each reads, and what a record keeps of their outcome."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from proofcard.checkpoint.dialects.rules import RULES
from proofcard.checkpoint.source import SCALE_SUFFIX, Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.ties import Ties
from proofcard.verify.inventory import natural
from proofcard.verify.packed import Judged
from proofcard.verify.report import Finding

Unit = tuple[tuple[str, ...], bool]
"""A fused group and True, or one unquantized tensor's name and False."""


@dataclass
class Outcome:
    """Of one unit of work: `modules` is a fused group, or one unquantized tensor's name."""

    modules: tuple[str, ...]
    quantized: bool
    findings: list[tuple[str, Finding]] = field(default_factory=list)  # with the module that it is of
    unchecked: str | None = None
    judged: list[Judged] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    source_bytes: int = 0


def reads_of(source: Source, tensors: dict[str, Tensor], bound: Ties) -> Callable[[Unit], list[Tensor]]:
    """Which tensors of both sides a unit reads."""
    inside: dict[str, list[Tensor]] = {}
    for each in (tensors, source.tensors):
        for name, tensor in each.items():
            inside.setdefault(name.rpartition(".")[0], []).append(tensor)

    def reads(unit: Unit) -> list[Tensor]:
        modules, packed = unit
        if packed:
            return [tensor for module in modules for tensor in inside.get(module, [])]
        origin = origin_of(source, modules[0], bound) or modules[0]
        names = (origin, f"{origin}{SCALE_SUFFIX}")
        return [tensors[modules[0]], *(source.tensors[name] for name in names if name in source.tensors)]

    return reads


def in_file_order(unit: Unit, tensors: dict[str, Tensor]) -> tuple[Any, ...]:
    """A sort key: where a unit's weights are in the checkpoint's files, which a disk reads in order."""
    modules, packed = unit
    weights = (tensors.get(f"{module}.weight" if packed else module) for module in modules)
    places = ((weight.path.name, weight.start) for weight in weights if weight is not None)
    file, start = max(places, default=("", 0))
    return _natural(file), start, natural(modules[0])


_natural = cache(natural)


class Sound:
    """Outcomes that a record may keep: those of which nothing is left to say."""

    def dump(self, outcome: Outcome) -> dict[str, Any] | None:
        """As JSON values; None for any other, which is then compared once more."""
        judged = outcome.judged
        if outcome.findings or outcome.unchecked or any(each.outcome != "follows" for each in judged):
            return None
        follows = [[j.module, [rule.name for rule in j.rules], j.blocks, j.odd, j.ties] for j in judged]
        counts = dict(outcome.counts)
        return {
            "modules": outcome.modules, "quantized": outcome.quantized, "judged": follows, "counts": counts,
            "source_bytes": outcome.source_bytes,
        }  # fmt: skip

    def load(self, said: dict[str, Any]) -> Outcome:
        """Raises KeyError, ValueError or TypeError for what is none."""
        rules = {rule.name: rule for rule in RULES}
        judged = [
            Judged(module, "follows", tuple(rules[name] for name in names), blocks, odd, ties)
            for module, names, blocks, odd, ties in said["judged"]
        ]
        return Outcome(
            tuple(said["modules"]), said["quantized"], judged=judged, counts=Counter(said["counts"]),
            source_bytes=said["source_bytes"],
        )  # fmt: skip


def origin_of(source: Source, name: str, bound: Ties) -> str | None:
    """The source's tensor that this one should equal: of its name, or tied to it."""
    return name if name in source.tensors else bound.partner(name, source.weights())
