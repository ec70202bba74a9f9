"""An audit on the screen, and in the card: claim, evidence, verdict."""

from proofcard.documents.audit import VERDICTS, Audit, AuditedClaim, Evidence
from proofcard.reports import Section


def sections(audit: Audit) -> list[Section]:
    """A table for each section of the card, and the counts."""
    found = []
    for name in dict.fromkeys(claim.section for claim in audit.claims):
        rows = [row(claim) for claim in audit.claims if claim.section == name]
        found.append(Section(name, "", ["claim", "evidence", "verdict"], rows))
    return [*found, Section(f"{audit.card}, audited with recipe={audit.recipe}", counted(audit))]


def row(claim: AuditedClaim) -> list[str]:
    """The claim, what shows it or speaks against it, and the verdict."""
    return [claim.claim, "; ".join(map(evidence, claim.evidence)), verdict(claim)]


def evidence(one: Evidence) -> str:
    """One check in a sentence; where it could not be made, what it needs."""
    if one.verdict != "not checked":
        return one.said
    return f"{one.said}: {needs(one)}"


def needs(one: Evidence) -> str:
    """The command, and the hardware, that a check needs."""
    where = f" on {one.hardware}" if one.hardware else ""
    return f"needs `{one.command}`{where}"


def verdict(claim: AuditedClaim) -> str:
    """The verdict as it is shown."""
    return claim.verdict


def counted(audit: Audit) -> str:
    """How many claims have which verdict."""
    given = [f"{audit.counts[name]} {name}" for name in reversed(VERDICTS) if audit.counts.get(name)]
    return f"{len(audit.claims)} claims: {', '.join(given)}."
