"""Classifies quantized linears: damage, searched scales, learned rounding, folded factors.

A search or a rounding is a matter of whole checkpoints: at least half of the linears of one kind (one name,
any layer and expert) show it. If it is the only one of its kind, it is damaged.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proofcard.verify.inventory import kind
from proofcard.verify.packed import Judged

_MANY = 0.5  # share of the linears of a kind


@dataclass
class Verdicts:
    """Linears by outcome, after all of them were seen."""

    follows: list[Judged] = field(default_factory=list)
    searched: list[Judged] = field(default_factory=list)
    rounded: list[Judged] = field(default_factory=list)
    folded: list[Judged] = field(default_factory=list)
    damaged: list[Judged] = field(default_factory=list)

    def why_not(self, given: bool) -> Iterator[str]:
        """A sentence for each reason why something does not follow from the source alone.

        `given`: scales are taken as they are stored.
        """
        total = sum(map(len, (self.follows, self.searched, self.rounded, self.folded, self.damaged)))
        if self.searched and not given:
            yield (
                f"searched scales: {len(self.searched)} of {total} quantized linears: every code is the "
                "right one for the stored scales, and these follow from the weights by no known rule "
                "(searches such as MSE, local Hessian or opt-RTN chose them); scales=given proves the codes "
                "against the scales as they are"
            )
        if self.rounded:
            near = 100 * (1 - float(np.mean([each.off for each in self.rounded])))
            worst = max(each.error for each in self.rounded)
            yield (
                f"chosen rounding: {len(self.rounded)} of {total} quantized linears: {near:.0f}% of the "
                "bytes are the nearest codes for the stored scales, the others close to them (relative "
                f"squared error up to {worst:.2g}): data chose them, as GPTQ, SignRound or a smoothing "
                "does, and nothing here recomputes that"
            )
        if self.folded:
            worst = max(each.error for each in self.folded)
            yield (
                f"folded factors: {len(self.folded)} of {total} quantized linears are the source's weights "
                "with a factor for each column, or row, as AWQ and SmoothQuant fold them in: with these "
                f"taken back the relative squared error is {worst:.2g} at most; data chose the factors, and "
                "no byte is proven"
            )

    def notes(self, given: bool) -> Iterator[str]:
        """By which rules the bytes follow, and what could not be decided."""
        if names := self.rules():
            yield "; ".join(f"{count} follow by {name}" for name, count in names.items())
        if ties := sum(each.ties for each in self.follows):
            yield f"{ties} blocks have two equally good scales, and either counts"
        if self.searched and given:
            ratios = np.concatenate([each.ratios for each in self.searched])
            blocks, odd = (sum(getattr(each, key) for each in self.searched) for key in ("blocks", "odd"))
            span = f", {ratios.min():.2f} to {ratios.max():.2f} times as large" if ratios.size else ""
            yield (
                f"{len(self.searched)} linears proven against the scales as given: {100 * odd / blocks:.0f}% "
                f"of their block scales are not the max rule's{span}"
            )

    def rules(self) -> dict[str, int]:
        """The names of the rules by which bytes follow, with the number of linears; alternatives joined."""
        counted: Counter[str] = Counter()
        for each in self.follows:
            makers = dict.fromkeys(f"{rule.name} ({rule.made_by})" for rule in each.rules)
            counted[" or ".join(makers)] += 1
        return dict(counted.most_common())

    def document(self) -> list[dict[str, Any]]:
        """How far the block scales of each searched linear are from the max rule's."""
        searched = []
        for each in self.searched:
            entry: dict[str, Any] = {"linear": each.module, "blocks": each.blocks, "differ": each.odd}
            if each.ratios.size:
                low, middle, high = np.quantile(each.ratios, (0, 0.5, 1)).tolist()
                entry |= {"smallest": low, "median": middle, "largest": high}
            searched.append(entry)
        return searched


def verdicts(judged: Iterable[Judged]) -> Verdicts:
    """Classify them; a linear that differs from all others of its kind counts as damaged."""
    kinds: dict[str, list[Judged]] = defaultdict(list)
    for each in judged:
        kinds[kind(each.module)].append(each)
    result = Verdicts()
    for members in kinds.values():
        count = Counter(each.outcome for each in members)
        searched = count["searched"] >= _MANY * len(members)
        rounded = count["searched"] + count["rounded"] >= _MANY * len(members) and count["rounded"] > 0
        folded = count["folded"] >= _MANY * len(members)
        for each in members:
            if each.outcome == "follows":
                result.follows.append(each)
            elif not each.shared:  # an odd second-level scale, all but that which follows
                result.damaged.append(each)
            elif (searched or rounded) and not each.against_given:  # also where few of its blocks differ
                result.searched.append(each)
            elif rounded and each.outcome == "rounded":
                result.rounded.append(each)
            elif (folded and each.outcome in ("folded", "rounded")) or (rounded and each.outcome == "folded"):
                result.folded.append(each)
            else:
                each.findings = each.against_given if searched and each.against_given else each.findings
                result.damaged.append(each)
    return result
