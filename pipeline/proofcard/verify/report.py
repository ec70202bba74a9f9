"""What a verification says: differences, results by level, the table on the screen, the JSON report.

The report tells no time, host or path, so the same checkpoint and source give the same bytes.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proofcard.digest import readable_json
from proofcard.disk import write_whole
from proofcard.screen import on_one_line

SCHEMA = "proofcard/verification/1"
ALONE = 3  # differences of one kind that are still listed each by itself
LISTED = 200  # differences that a report lists; it counts them all
GIVEN = "verified, scales as given"
STATUS = {"verified": 0, GIVEN: 0, "differs": 1, "not checked": 2}

Kind = Literal["missing", "extra", "mismatched"]


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


@dataclass
class Level:
    """One level's outcome. `unchecked` says why part of it could not be checked; `notes` go on the screen."""

    name: str
    not_asked: str | None = None
    findings: list[Finding] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    unchecked: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    scales: list[dict[str, Any]] = field(default_factory=list)  # of searched linears, against the max rule
    made_by: dict[str, int] = field(default_factory=dict)  # linears by the rule that they follow
    given: bool = False  # whether it holds only for scales taken as they are stored
    seconds: float = 0.0

    def add(self, *found: Finding) -> None:
        """Count differences, and keep the first `LISTED` of them."""
        for finding in found:
            self.kinds[finding.kind] += 1
            if len(self.findings) < LISTED:
                self.findings.append(finding)

    def group(self, found: Iterable[Finding]) -> None:
        """Count differences as `add` does, and list many of one kind as one, with how many there are.

        Of one kind are those whose names and messages differ in numbers alone.
        """
        alike: dict[tuple[str | None, ...], list[Finding]] = {}
        for finding in found:
            words = (finding.kind, finding.message, finding.file, finding.tensor)
            alike.setdefault(tuple(word and re.sub(r"\d+", "#", word) for word in words), []).append(finding)
        for findings in alike.values():
            if len(findings) <= ALONE:
                self.add(*findings)
                continue
            more = f"and {len(findings) - 1} more like it, the last {findings[-1].where()}"
            self.add(replace(findings[0], message=f"{findings[0].message} ({more})"))
            self.kinds[findings[0].kind] += len(findings) - 1

    @property
    def result(self) -> str:
        """`holds`, `differs`, `not checked` or `not asked`; a difference outweighs what was not checked."""
        if self.not_asked is not None:
            return "not asked"
        if self.kinds:
            return "differs"
        return "not checked" if self.unchecked else "holds"


def overall(levels: list[Level]) -> str:
    """`verified`, `verified, scales as given`, `differs` or `not checked` over the levels asked for."""
    results = {level.result for level in levels}
    if "differs" in results:
        return "differs"
    if "not checked" in results:
        return "not checked"
    return GIVEN if any(level.given for level in levels) else "verified"


def document(levels: list[Level], manifest: dict[str, Any] | None) -> dict[str, Any]:
    """The JSON report. `manifest` is what identifies the manifest that was read, if one was."""
    return {
        "schema": SCHEMA,
        "result": overall(levels),
        "manifest": manifest,
        "levels": {level.name: _document(level) for level in levels},
    }


def _document(level: Level) -> dict[str, Any]:
    listed = [{f.name: getattr(finding, f.name) for f in fields(finding)} for finding in level.findings]
    plain = [
        {key: on_one_line(value) if isinstance(value, str) else value for key, value in finding.items()}
        for finding in listed
    ]
    return {
        "result": level.result,
        "not_asked": level.not_asked,
        "counts": dict(level.counts),
        "differences": {"total": level.kinds.total(), **level.kinds, "listed": plain},
        "notes": [on_one_line(note) for note in level.notes],
        **({"rules": level.made_by} if level.made_by else {}),
        **({"scales": level.scales} if level.scales else {}),
        "unchecked": {
            "total": len(level.unchecked),
            "listed": [on_one_line(s) for s in level.unchecked[:LISTED]],
        },
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the report so that a reader finds the old one or the new one, never a part."""
    write_whole(path, readable_json(content))


def show(levels: list[Level], console: Console) -> None:
    """The table, and under it the first difference of each level that differs."""
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("level", "result", "what was checked"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "what was checked")
    for level in levels:
        table.add_row(level.name, level.result, _checked(level))
    console.print(table, markup=False)
    for level in levels:
        if level.findings:
            _show_first(level, console)
        if level.unchecked:
            more = f" (and {len(level.unchecked) - 1} more)" if len(level.unchecked) > 1 else ""
            _say(console, f"{level.name}: not checked: {level.unchecked[0]}{more}")


def _checked(level: Level) -> str:
    if level.not_asked is not None:
        return level.not_asked
    if not level.counts:
        return "nothing"
    said = [f"{count} {what}" for what, count in level.counts.items() if what != "bytes"]
    if "bytes" in level.counts:
        said.append(f"{level.counts['bytes'] / 1e6:.1f} MB")
    return "; ".join([", ".join([*said, f"{level.seconds:.1f} s"]), *level.notes])


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


def _say(console: Console, text: str, indent: int = 0) -> None:
    console.print(Padding(Text(on_one_line(text), overflow="fold"), (0, 0, 0, indent)))
