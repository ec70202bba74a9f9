"""The report of `agentic`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from proofcard.documents.base import Document, Json, Sha256
from proofcard.documents.tasks import Range, Server

End = Literal["by itself", "too many replies", "cut", "thinking", "refused", "server"]


class BuiltTask(Document):
    """One task of one run: whether it passed, why not, and how the model got there.

    `end` is how the conversation ended. `replies`, `calls`, `unknown_tools`, `malformed` and `failed_runs`
    count the model's replies, its calls of tools, those of tools that do not exist or whose arguments are not
    JSON, and its own programs that failed; `repaired` of these were followed by a change and a program that
    succeeded.
    `at_the_end` tells whether the same checks pass in the finished workspace.
    """

    number: PositiveInt
    phase: str
    passed: bool
    why: str
    at_the_end: bool
    end: End
    compiles: bool
    replies: NonNegativeInt
    calls: NonNegativeInt
    unknown_tools: NonNegativeInt
    malformed: NonNegativeInt
    failed_runs: NonNegativeInt
    repaired: NonNegativeInt
    tokens: NonNegativeInt


class Build(Document):
    """One run: its tasks by name, numbered in their order, and the files that it left, with their lines."""

    passed: NonNegativeInt
    at_the_end: NonNegativeInt
    tasks: dict[str, BuiltTask]
    files: dict[str, NonNegativeInt]


class AgenticReport(Document):
    """`agentic.json`: `score` is the share of tasks that passed, over all runs."""

    schema_: Literal["proofcard/agentic/2"] = Field(default="proofcard/agentic/2", alias="schema")
    name: str
    server: Server
    specification: Sha256
    framework: str
    sampling: dict[str, Json]
    turns: PositiveInt
    max_tokens: PositiveInt
    confidence: Annotated[float, Field(gt=0, lt=1)]
    score: Range
    runs: list[Build]
