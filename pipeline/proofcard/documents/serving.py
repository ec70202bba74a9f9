"""A serving session: how the engine was started, its effective settings, and the known-answer check."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from proofcard.documents.base import Document, Json, Sha256


class Setting(Document):
    """A setting as requested and in effect; null if the profile or the engine does not have it."""

    name: str
    requested: str | None
    effective: str | None
    differs: bool


class Verdict(Document):
    """A question of the known-answer check, the answer, and why it is right or wrong."""

    name: str
    prompt: str
    answer: str
    right: bool
    why: str


class KnownAnswers(Document):
    """A known-answer check; `sound` if at least the share `at_least` of the answers is right."""

    name: str
    at_least: float
    passed: NonNegativeInt
    sound: bool
    verdicts: list[Verdict]


class ServingSession(Document):
    """One start of an engine; `url` ends in /v1.

    `command` has secrets redacted and no folder of the machine: the checkpoint is DIR, the folder of this
    start (its log, the code that the engine may run) START.
    """

    schema_: Literal["proofcard/serving/2"] = Field(default="proofcard/serving/2", alias="schema")
    checkpoint: str
    key: Sha256 | None
    profile: dict[str, Json]
    engine: str
    engine_version: str | None
    command: str
    warnings: list[str]
    url: str
    model: str
    ready_s: NonNegativeFloat
    settings: list[Setting]
    known_answers: KnownAnswers
