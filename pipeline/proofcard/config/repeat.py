"""What `repeat` may be told: the request, how often it is sent, and what else keeps the server busy."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from proofcard.config.asking import Target, check_targets
from proofcard.config.schema import Part, Tracking
from proofcard.config.serving import Serving


class Repeat(Part):
    """A greedy request, sent `times` times with nothing else under way, and as often among others.

    Under load `users` requests are under way at a time: this one and, all of them different, others of up to
    the same length. `max_tokens` and `timeout_s` are for one answer.
    """

    name: str
    prompt: str = Field(min_length=1)
    times: int = Field(ge=2)
    max_tokens: int = Field(ge=1)
    users: int = Field(ge=2, le=1024)
    timeout_s: float = Field(gt=0)


class RepeatConfig(Target):
    """The whole of `repeat`'s configuration."""

    tokenizer: Path | None
    serving: Serving | None = None
    repeat: Repeat
    tracking: Tracking
    work_dir: Path

    @model_validator(mode="after")
    def _served(self) -> Self:
        check_targets(self.serving, itself=self)
        return self
