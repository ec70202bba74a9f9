"""A chain from a recipe to a signed card: what became of each stage, with times and folders."""

from typing import Literal

from pydantic import Field, NonNegativeFloat

from proofcard.documents.base import Document, Sha256

State = Literal["made", "reused", "left out", "failed", "interrupted", "not reached"]


class Stage(Document):
    """One stage. `command` can be pasted into a shell; `why` says why it is left out, or what is reused."""

    name: str
    state: State
    why: str | None
    command: str
    seconds: NonNegativeFloat


class Run(Document):
    """One run. `again` is the command that resumes it, `verify` the one with which a stranger verifies."""

    schema_: Literal["proofcard/run/1"] = Field(default="proofcard/run/1", alias="schema")
    recipe: str
    key: Sha256 | None
    checkpoint: str | None
    stages: list[Stage]
    again: str
    card: str | None = None
    verify: str | None = None

    def finished(self) -> list[str]:
        """The names of stages that are made or reused, in order."""
        return [stage.name for stage in self.stages if stage.state in ("made", "reused")]
