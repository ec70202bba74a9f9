"""What a verification says: differences, results by level, the table on the screen, and the document.

The document contains no time, host or local path, so the same checkpoint and source give the same bytes.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from proofcard.documents.verification import (
    Difference,
    Differences,
    Group,
    Kind,
    LevelOutcome,
    LevelResult,
    Maker,
    Result,
    Seal,
    SearchedScales,
    Unchecked,
    Verification,
)
from proofcard.grid import Grid
from proofcard.screen import on_one_line

ALONE = 3  # differences of one kind that are still listed each by itself
LISTED = 200  # differences that a report lists; it counts them all
_SHOWN = 4  # groups of differences on the screen
GIVEN: Result = "verified, scales as given"
STATUS = {"verified": 0, GIVEN: 0, "differs": 1, "not checked": 2}


@dataclass(frozen=True)
class Finding:
    """One difference. `offset` counts bytes from the beginning of the tensor."""

    kind: Kind
    message: str
    file: str | None = None
    tensor: str | None = None
    offset: int | None = None
    expected: str | None = None
    found: str | None = None
    differing_bytes: int | None = None
    cause: str | None = None

    def where(self) -> str:
        """The tensor, or the file, or nothing in particular."""
        return self.tensor or self.file or "the checkpoint"

    def place(self) -> str:
        """The layer that it lies in, its file where it concerns no tensor, or what is outside every layer."""
        if self.tensor is None:
            return self.file or "the checkpoint"
        layer = re.match(r"(?:[^.]+\.)*?\d+(?=\.)", self.tensor)
        return layer[0] if layer else self.tensor.rpartition(".")[0] or self.tensor


@dataclass
class Level:
    """One level's outcome. `unchecked`: why parts could not be checked; `notes` are shown."""

    name: str
    not_requested: str | None = None
    findings: list[Finding] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    groups: Counter[tuple[Kind, str]] = field(default_factory=Counter)  # by kind and place
    unchecked: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    homes: dict[str, str] = field(default_factory=dict)  # the file of each tensor that was seen
    scales: list[dict[str, Any]] = field(default_factory=list)  # of searched linears, against the max rule
    made_by: dict[str, int] = field(default_factory=dict)  # linears by the rule that they follow
    given: bool = False  # whether it holds only for scales taken as they are stored
    calibrated: int = 0  # scales that cannot follow from the source
    seconds: float = 0.0

    def add(self, *findings: Finding) -> None:
        """Count differences, and keep the first `LISTED` of them."""
        for finding in findings:
            self.kinds[finding.kind] += 1
            self.groups[finding.kind, finding.place()] += 1
            if len(self.findings) < LISTED:
                self.findings.append(finding)

    def group(self, findings: Iterable[Finding]) -> None:
        """Count differences as `add` does, and list many of one kind as one, with how many there are.

        Of one kind are those whose names and messages differ in numbers alone.
        """
        alike: dict[tuple[str | None, ...], list[Finding]] = {}
        for finding in findings:
            words = (finding.kind, finding.message, finding.file, finding.tensor)
            alike.setdefault(tuple(word and re.sub(r"\d+", "#", word) for word in words), []).append(finding)
        for members in alike.values():
            if len(members) <= ALONE:
                self.add(*members)
                continue
            more = f"and {len(members) - 1} similar ones, the last {members[-1].where()}"
            self.add(replace(members[0], message=f"{members[0].message} ({more})"))
            self.kinds[members[0].kind] += len(members) - 1
            self.groups.update((finding.kind, finding.place()) for finding in members[1:])

    @property
    def result(self) -> LevelResult:
        """`holds`, `differs`, `not checked` or `not requested`; a difference outweighs the rest."""
        if self.not_requested is not None:
            return "not requested"
        if self.kinds:
            return "differs"
        return "not checked" if self.unchecked else "holds"


def overall(levels: list[Level]) -> Result:
    """`verified`, `verified, scales as given`, `differs` or `not checked` over the requested levels."""
    results = {level.result for level in levels}
    if "differs" in results:
        return "differs"
    if "not checked" in results:
        return "not checked"
    return GIVEN if any(level.given for level in levels) else "verified"


def document(
    levels: list[Level],
    manifest: dict[str, Any] | None = None,
    checkpoint: str | None = None,
    source: str | None = None,
    kernels: Any = None,
    maker: dict[str, Any] | None = None,
) -> Verification:
    """The outcome as a document. `manifest` identifies the one that was read; addresses are of the hub."""
    return Verification(
        result=overall(levels),
        checkpoint=checkpoint,
        source=source,
        manifest=None if manifest is None else Seal(**manifest),
        kernels=kernels,
        maker=None if maker is None else Maker.model_validate(maker),
        levels={level.name: _outcome(level) for level in levels},
    )


def _outcome(level: Level) -> LevelOutcome:
    groups = sorted(level.groups.items(), key=lambda group: (-group[1], group[0]))
    return LevelOutcome(
        result=level.result,
        not_requested=level.not_requested,
        counts=dict(level.counts),
        differences=Differences(
            total=level.kinds.total(),
            missing=level.kinds["missing"],
            extra=level.kinds["extra"],
            mismatched=level.kinds["mismatched"],
            groups=[
                Group(kind=kind, where=on_one_line(where), count=count)
                for (kind, where), count in groups[:LISTED]
            ],
            listed=[_difference(finding, level.homes) for finding in level.findings],
        ),
        notes=[on_one_line(note) for note in level.notes],
        rules=level.made_by,
        scales=[SearchedScales.model_validate(each) for each in level.scales],
        unchecked=Unchecked(
            total=len(level.unchecked),
            listed=[on_one_line(sentence) for sentence in level.unchecked[:LISTED]],
        ),
    )


def _difference(finding: Finding, homes: dict[str, str]) -> Difference:
    values: dict[str, Any] = {f.name: getattr(finding, f.name) for f in fields(finding)}
    if finding.file is None and finding.tensor is not None:
        values["file"] = homes.get(finding.tensor)
    plain = {key: on_one_line(value) if isinstance(value, str) else value for key, value in values.items()}
    return Difference.model_validate(plain)


def show(levels: list[Level], console: Console) -> None:
    """The table, and under it the first difference of each level that differs."""
    table = Grid("level", "result", "what was checked", left=(0, 1, 2))
    for level in levels:
        table.add_row(level.name, level.result, _checked(level))
    console.print()
    console.print(table)
    console.print()
    for level in levels:
        if level.findings:
            _show_first(level, console)
        if level.unchecked:
            more = f" (and {len(level.unchecked) - 1} more)" if len(level.unchecked) > 1 else ""
            _say(console, f"{level.name}: not checked: {level.unchecked[0]}{more}")


def conclusion(outcome: Verification, levels: list[Level]) -> str:
    """The last line: the result, and what no requested level could prove."""
    scales = sum(level.calibrated for level in levels)
    calibration = outcome.levels.get("calibration")
    if (
        outcome.result not in ("verified", GIVEN)
        or not scales
        or (calibration and calibration.result == "holds")
    ):
        return outcome.result
    return (
        f"{outcome.result} ({scales:,} calibration scales cannot follow from the source; "
        "levels=[calibration] recomputes them)"
    )


def _checked(level: Level) -> str:
    if level.not_requested is not None:
        return level.not_requested
    if not level.counts:
        return "nothing"
    parts = [f"{count} {what}" for what, count in level.counts.items() if what != "bytes"]
    if "bytes" in level.counts:
        parts.append(f"{level.counts['bytes'] / 1e6:.1f} MB")
    return "; ".join([", ".join([*parts, f"{level.seconds:.1f} s"]), *level.notes])


def _show_first(level: Level, console: Console) -> None:
    first = level.findings[0]
    total = level.kinds.total()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(level.kinds.items()))
    _say(console, f"{level.name}: {kinds}; the first:" if total > 1 else f"{level.name}: {kinds}:")
    _say(console, first.where(), indent=2)
    _say(console, first.message, indent=4)
    if first.cause is not None:
        _say(console, f"likely: {first.cause}", indent=4)
    elif first.differing_bytes is not None:
        _say(console, "cause unknown: none of the known ones gives these bytes", indent=4)
    if len(level.groups) > 1:
        most = level.groups.most_common(_SHOWN)
        places = ", ".join(f"{count} {kind} in {where}" for (kind, where), count in most)
        more = (
            f", and in {len(level.groups) - len(most)} more places" if len(level.groups) > len(most) else ""
        )
        _say(console, f"where: {places}{more}", indent=2)


def _say(console: Console, text: str, indent: int = 0) -> None:
    console.print(Padding(Text(on_one_line(text), overflow="fold"), (0, 0, 0, indent)))
