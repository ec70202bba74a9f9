"""What `serve` may be told: how an engine is started, and the questions it must answer first."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from proofcard.config.schema import Part, Sha256, Tracking

Flag = str | int | float | bool | None


class Serving(Part):
    """One way to start an engine. Times in seconds.

    `flags` become the engine's options in this order: `name: value` is `--name value`, `true` is `--name`
    alone, `false` and null leave it out. `port` 0 is a free one. `served_model_name` null is the checkpoint's
    own name. The file `api_key_file` holds the key that clients must show. `remote_code` pins the sha256 of
    each Python file of the checkpoint that may be run; what `conf/model` pins need not be repeated.
    """

    name: str
    summary: str
    engine: Literal["sglang", "vllm", "transformers"]
    flags: dict[str, Flag]
    environment: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]]
    host: str
    port: int = Field(ge=0, le=65535)
    api_key_file: Path | None
    served_model_name: str | None
    ready_timeout_s: float = Field(gt=0)
    remote_code: dict[str, Sha256]


class Numbers(Part):
    """A list too long to write down: n · `step`, modulo `modulo`, for n from 0 to `count` - 1.

    With `ascending` it is sorted. With `reads`, of an argument, a call may read so many of its elements.
    """

    count: int = Field(ge=1, le=1 << 20)
    step: int = 1
    modulo: int | None = Field(None, ge=1)
    ascending: bool = False
    reads: int | None = Field(None, ge=0)

    def values(self) -> list[int]:
        """The numbers themselves."""
        numbers = [n * self.step % self.modulo if self.modulo else n * self.step for n in range(self.count)]
        return sorted(numbers) if self.ascending else numbers

    def __str__(self) -> str:
        """How a sentence names it."""
        return f"{'sorted ' if self.ascending else ''}list of {self.count:,} numbers"


Value = Annotated[Numbers | JsonValue, Field(union_mode="left_to_right")]


class Call(Part):
    """A call of a function: its arguments and the value that it must return, JSON values or `Numbers`."""

    given: tuple[Value, ...]
    returns: Value


class Calls(Part):
    """A function that an answer's code must define, and what it must return."""

    function: str
    expected: tuple[Call, ...] = Field(min_length=1)


class Question(Part):
    """A question with a known answer; exactly one of the last three says how the answer is judged.

    `contains` must stand in the answer; the regular expression `matches` must describe all of it; `calls` are
    calls of what the answer's code defines.
    """

    prompt: str
    system: str | None = None
    contains: str | None = None
    matches: str | None = None
    calls: Calls | None = None

    @model_validator(mode="after")
    def _judged_once(self) -> Self:
        if sum(way is not None for way in (self.contains, self.matches, self.calls)) != 1:
            raise ValueError("a question needs exactly one of contains, matches and calls")
        if self.matches is not None:
            import regex  # of the extras that ask servers

            try:
                regex.compile(self.matches)
            except regex.error as error:
                raise ValueError(f"matches is no regular expression: {error}") from None
        if "" in (self.contains, self.matches):
            raise ValueError("an empty contains or matches would find every answer right, or none")
        return self


class Truth(Part):
    """Known-answer questions, asked once the engine is ready, before anything else.

    `known_answers` is a file of more of them, as `demo/known_answers.json`. The model is sound when at least
    the share `at_least` of the answers is right; with `required`, nothing is measured of one that is not.
    `max_tokens` is for one answer, and so is `timeout_s`, in seconds. Code in answers runs in a sandbox:
    `strict` refuses to start where the machine cannot provide all of it, `weak` goes on with what there is.
    """

    name: str
    questions: dict[str, Question]
    known_answers: Path | None
    at_least: float = Field(ge=0, le=1)
    required: bool
    sandbox: Literal["strict", "weak"]
    max_tokens: int = Field(ge=1)
    timeout_s: float = Field(gt=0)


class ServeConfig(Part):
    """The whole of `serve`'s configuration. Without `stay` it ends after the questions, soundly or not.

    `verify` on: what does not verify is not served.
    """

    checkpoint: Path
    verify: Literal["on", "off"] = "on"
    serving: Serving
    truth: Truth
    stay: bool
    tracking: Tracking
    work_dir: Path
