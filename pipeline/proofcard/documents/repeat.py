"""The report of `repeat`."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from proofcard.documents.base import Document, Sha256
from proofcard.documents.tasks import Range, Server

Finding = Literal["REPEATABLE", "NOT REPEATABLE", "NOT SHOWN"]


class Difference(Document):
    """Where an answer first leaves the usual one, counted from 0; `token` null without a tokenizer."""

    character: NonNegativeInt
    token: NonNegativeInt | None


class Phase(Document):
    """The answers of one phase. `same` is the share that equals the most frequent answer of both phases.

    `first` is the earliest place at which any answer of the phase leaves that one.
    """

    requests: PositiveInt
    failed: NonNegativeInt
    first_failure: str | None
    distinct: NonNegativeInt
    same: Range | None
    first: Difference | None


class Variant(Document):
    """One answer: its digest, its length, how often it came, and where it leaves the usual one."""

    sha256: Sha256
    characters: NonNegativeInt
    alone: NonNegativeInt
    loaded: NonNegativeInt
    first: Difference | None


class RepeatReport(Document):
    """`repeat.json`: the request, and how many different answers came back."""

    schema_: Literal["proofcard/repeat/2"] = Field(default="proofcard/repeat/2", alias="schema")
    name: str
    finding: Finding
    server: Server
    request: Sha256
    max_tokens: PositiveInt
    users: PositiveInt
    confidence: float
    distinct: NonNegativeInt
    phases: dict[Literal["alone", "loaded"], Phase]
    variants: list[Variant]
