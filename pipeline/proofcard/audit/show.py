"""An audit for people: claim, evidence, verdict; and what the claims that were not checked need."""

from rich.text import Text

from proofcard.documents.audit import VERDICTS, Audit, AuditedClaim, Evidence, Verdict
from proofcard.grid import Grid
from proofcard.screen import Screen
from proofcard.units import counted as counted_

_STYLES: dict[Verdict, str] = {
    "contradicted": "red", "internally inconsistent": "red", "contradicted by measurement": "red",
    "not checked": "yellow", "holds": "green",
}  # fmt: skip

Need = tuple[str, str]
"""A command, and the hardware that it has to run on; "" for any."""


def show(audit: Audit, out: Screen) -> None:
    """A table for each section of the card, the needs, and the counts."""
    listed = needs(audit)
    for section in sections(audit):
        out.print()
        out.print(Text(section, style="bold"))
        table = Grid("claim", "evidence", "verdict", left=(0, 1, 2))
        for claim in audit.claims:
            if claim.section == section:
                table.add_row(claim.claim, evidence(claim), _verdict(claim, listed))
        out.print(table)
    out.print()
    for number, (command, hardware) in enumerate(listed, 1):
        out.print(f"[{number}] needs {command}" + (f", on {hardware}" if hardware else ""), soft_wrap=True)
    out.print()
    out.print(f"{audit.card}, audited with recipe={audit.recipe}", soft_wrap=True)
    out.print(counted(audit), soft_wrap=True)


def sections(audit: Audit) -> list[str]:
    """The sections of the card, in its order."""
    return list(dict.fromkeys(claim.section for claim in audit.claims))


def needs(audit: Audit) -> list[Need]:
    """What the claims that were not checked need, each once."""
    unmet = [
        need(one)
        for claim in audit.claims
        for one in claim.evidence
        if claim.verdict == one.verdict == "not checked"
    ]
    return list(dict.fromkeys(unmet))


def need(one: Evidence) -> Need:
    """What a check that was not made needs."""
    return (one.command or "", one.hardware or "")


def evidence(claim: AuditedClaim) -> str:
    """The checks that the verdict follows from; of a claim that was not checked, those that hold."""
    decisive = [one.sentence for one in claim.evidence if one.verdict == claim.verdict]
    if claim.verdict == "not checked":
        decisive = [one.sentence for one in claim.evidence if one.verdict == "holds"] or decisive
    return "; ".join(dict.fromkeys(decisive))


def numbers(claim: AuditedClaim, listed: list[Need]) -> list[int]:
    """Which of the needs are the claim's, from 1."""
    own = [need(one) for one in claim.evidence if one.verdict == "not checked"]
    return [listed.index(each) + 1 for each in dict.fromkeys(own) if claim.verdict == "not checked"]


def counted(audit: Audit) -> str:
    """How many claims have which verdict."""
    given = [f"{audit.counts[name]} {_plural(name, audit.counts[name])}" for name in reversed(VERDICTS)
             if audit.counts.get(name)]  # fmt: skip
    return f"{counted_(len(audit.claims), 'claim')}: {', '.join(given)}."


def _plural(verdict: Verdict, count: int) -> str:
    return "hold" if verdict == "holds" and count != 1 else verdict


def _verdict(claim: AuditedClaim, listed: list[Need]) -> Text:
    marks = " ".join(f"[{number}]" for number in numbers(claim, listed))
    return Text(f"{claim.verdict} {marks}".strip(), style=_STYLES[claim.verdict])
