"""An engine that answers for a checkpoint: how it was started, what really runs, and what it knows."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from proofcard.documents.base import Document, Json, Sha256


class Setting(Document):
    """A setting as it was requested and as it runs; null where the profile or the engine does not say."""

    name: str
    asked: str | None
    effective: str | None
    differs: bool


class Verdict(Document):
    """A known-answer question, the answer to it, and why that is right or wrong."""

    name: str
    prompt: str
    answer: str
    right: bool
    why: str


class KnownAnswers(Document):
    """A set of known-answer questions; `sound` when the share `at_least` of them is right."""

    name: str
    at_least: float
    passed: NonNegativeInt
    sound: bool
    verdicts: list[Verdict]


class ServingSession(Document):
    """One start of an engine. `command` can be pasted into a shell, secrets struck out; `url` ends in /v1."""

    schema_: Literal["proofcard/serving/1"] = Field(default="proofcard/serving/1", alias="schema")
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
