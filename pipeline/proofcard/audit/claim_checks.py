"""From claims to verdicts, computed from a plan and documents on every run."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proofcard.audit import engines
from proofcard.audit.claims import Check, Claim, Claims
from proofcard.audit.expressions import Absent, Defined, FormulaError, evaluate, fill
from proofcard.documents.audit import VERDICTS, AuditedClaim, Verdict
from proofcard.documents.audit import Evidence as Shown
from proofcard.errors import Usage
from proofcard.evidence import KINDS
from proofcard.evidence import Evidence as Document

_WRONG: dict[str, Verdict] = {
    "plan": "contradicted", "document": "contradicted", "engine": "contradicted",
    "card": "internally inconsistent", "measurement": "contradicted by measurement",
}  # fmt: skip
"""The verdict when a check's formula is false."""


@dataclass(frozen=True)
class Basis:
    """What claims are checked against: a plan, the model's config.json, documents of a checkpoint."""

    plan: dict[str, Any]
    settings: dict[str, Any]
    documents: list[Document] = field(default_factory=list)

    def newest(self, kind: str) -> dict[str, Any] | None:
        """The values of a document of that kind."""
        return next((one.values for one in self.documents if one.kind == kind), None)


def audited(claims: Claims, basis: Basis) -> list[AuditedClaim]:
    """Every claim with its verdict.

    Raises:
        Usage: when a formula of the claims file cannot be evaluated; the claim is named.
    """
    card = {name: claim.numbers for _, name, claim in claims.each()}
    results = []
    for section, name, claim in claims.each():
        names = {"numbers": claim.numbers, "card": card}
        results.append(_audited(section, name, claim, names, claims.names, basis))
    return results


def _audited(
    section: str, name: str, claim: Claim, names: dict[str, Any], formulas: dict[str, str], basis: Basis
) -> AuditedClaim:
    shown = []
    for check in claim.checks:
        try:
            shown.append(_checked(check, names, formulas, basis))
        except FormulaError as error:
            raise Usage(f"claim {name}, check by {check.by}: {error}") from None
    return AuditedClaim(name=name, section=section, claim=claim.claim, verdict=overall(shown), evidence=shown)


def overall(shown: Iterable[Shown]) -> Verdict:
    """The verdict over several checks: the first of `VERDICTS` that one of them has."""
    given = {each.verdict for each in shown}
    return next(verdict for verdict in VERDICTS if verdict in given)


def _checked(check: Check, names: dict[str, Any], formulas: dict[str, str], basis: Basis) -> Shown:
    values = _names(check, names, basis)
    if check.holds is None:
        return _needs(check, "this cannot be checked here")
    if values is None:
        return _needs(check, f"there is no {check.of} document here")
    try:
        return _judged(check, Defined(values, formulas))
    except Absent:
        if check.by not in ("document", "measurement"):
            raise
        return _needs(check, f"the {check.of} document here does not have it")


def _judged(check: Check, known: Defined) -> Shown:
    assert check.holds is not None
    value = evaluate(check.holds, known)
    if not isinstance(value, bool):
        raise FormulaError(f"{check.holds!r} is {value!r}, neither true nor false")
    verdict: Verdict = "holds" if value else _WRONG[check.by]
    return Shown(by=check.by, verdict=verdict, sentence=fill(check.evidence, known))


def _names(check: Check, names: dict[str, Any], basis: Basis) -> dict[str, Any] | None:
    """What the check's formulas may refer to; None where its document is missing."""
    match check.by:
        case "card":
            return names
        case "plan":
            return names | {"plan": basis.plan}
        case "engine":
            return names | {"plan": basis.plan} | engines.findings(check, basis.plan, basis.settings)
    if check.of is None:
        return None
    if check.of not in {kind.kind for kind in KINDS}:
        raise FormulaError(f"of={check.of} is not a kind of document")
    values = basis.newest(check.of)
    return None if values is None else names | {"plan": basis.plan, check.of: values}


def _needs(check: Check, why: str) -> Shown:
    return Shown(
        by=check.by, verdict="not checked", sentence=why, command=check.command, hardware=check.hardware
    )
