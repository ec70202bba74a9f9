"""What `agentic` may be told: a program to be built task by task, and what each task is checked by."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from proofcard.config.asking import Target, check_targets
from proofcard.config.schema import Part, Tracking
from proofcard.config.serving import Serving

FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\.py")
"""What the file of a workspace may be called."""


class Check(Part):
    """Statements that import the model's files and leave `result`, and the JSON value that it must be."""

    do: str
    gives: JsonValue


class BuildTask(Part):
    """One task: what the model is asked for, the files that must be there afterwards, and the checks."""

    phase: str
    prompt: str
    files: tuple[str, ...] = Field(min_length=1)
    checks: tuple[Check, ...] = Field(min_length=1)

    @field_validator("files")
    @classmethod
    def _names(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in files if FILE_NAME.fullmatch(name) is None]:
            raise ValueError(
                f"files names {wrong[0]}: should be like note_store.py, small letters, digits and _"
            )
        return files


class AgentSampling(Part):
    """How replies are drawn; null leaves a field out of the request. Run number r is asked with seed + r."""

    temperature: float = Field(ge=0)
    top_p: float | None = Field(gt=0, le=1)
    top_k: int | None = Field(ge=1)
    seed: int | None = Field(ge=0)


class Agentic(Part):
    """A program built in `runs` fresh workspaces by tools that write, read and run Python files.

    A task ends when the model replies without a call of a tool; one that goes on after `turns` replies has
    failed. `max_tokens` and `timeout_s` are for one reply. With `at_least`, fewer passed tasks in any run are
    exit status 1.
    """

    name: str
    runs: int = Field(ge=1)
    turns: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    timeout_s: float = Field(gt=0)
    at_least: int | None = Field(ge=0)
    sandbox: Literal["strict", "weak"]
    sampling: AgentSampling
    specification: str
    tasks: dict[str, BuildTask] = Field(min_length=1)


class AgenticConfig(Target):
    """The whole of `agentic`'s configuration: the server that is asked, and what it is asked to build."""

    serving: Serving | None = None
    agentic: Agentic
    tracking: Tracking
    work_dir: Path

    @model_validator(mode="after")
    def _served(self) -> Self:
        check_targets(self.serving, itself=self)
        return self
