"""A published card, claim by claim, and the verdict on each claim."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Sha256

Verdict = Literal[
    "holds", "contradicted", "internally inconsistent", "contradicted by measurement", "not checked"
]

VERDICTS: tuple[Verdict, ...] = (
    "contradicted", "internally inconsistent", "contradicted by measurement", "not checked", "holds",
)  # fmt: skip
"""From the one that decides over all others to the one that needs all checks."""


class Evidence(Document):
    """One check of a claim: what it was checked by, its verdict, and the sentence that shows why.

    `command` and `hardware` are what a check that could not be made here needs.
    """

    by: Literal["plan", "card", "document", "measurement", "engine"]
    verdict: Verdict
    sentence: str
    command: str | None = None
    hardware: str | None = None


class AuditedClaim(Document):
    """A claim in our words, where the card makes it, its verdict, and the checks that it follows from."""

    name: str
    section: str
    claim: str
    verdict: Verdict
    evidence: list[Evidence]


class Source(Document):
    """A document that claims were checked against, by kind and digest of its text."""

    kind: str
    schema_: str = Field(alias="schema")
    sha256: Sha256


class Audit(Document):
    """Every claim of a card, checked against a recipe's plan and the available documents of `key`."""

    schema_: Literal["proofcard/audit/2"] = Field(default="proofcard/audit/2", alias="schema")
    claims_file: str
    claims_sha256: Sha256
    card: str
    recipe: str
    config_sha256: Sha256
    key: Sha256 | None
    counts: dict[Verdict, NonNegativeInt]
    sources: list[Source]
    claims: list[AuditedClaim]
