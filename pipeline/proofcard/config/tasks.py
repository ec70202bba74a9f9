"""What `tasks` may be told: the questions, how they are asked, and by which rule the result is judged."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from proofcard.config.asking import Target, check_targets
from proofcard.config.schema import Part, Tracking
from proofcard.config.serving import Serving


class Sampling(Part):
    """How answers are drawn; `temperature` 0 is greedy. Null leaves a field out of the request.

    `max_tokens` bounds one answer, its thoughts included. Repeat number r is asked with seed + r.
    """

    temperature: float = Field(ge=0)
    top_p: float | None = Field(gt=0, le=1)
    top_k: int | None = Field(ge=1)
    seed: int | None = Field(ge=0)
    max_tokens: int = Field(ge=1)


class Task(Part):
    """One task: its name in lm-evaluation-harness, and which of its metrics, by which filter, is the score.

    Every question is asked `repeats` times. `path` is a local copy of its dataset. `max_tokens` replaces the
    sampling's. `published` are values that others have printed, by what they measured. A task that cannot be
    run has `harness` null, and `why`.
    """

    harness: str | None
    metric: str = "exact_match"
    filter: str = "none"
    repeats: int = Field(1, ge=1)
    path: Path | None = None
    max_tokens: int | None = Field(None, ge=1)
    published: dict[str, float] = Field(default_factory=dict)
    why: str | None = None

    @model_validator(mode="after")
    def _reason(self) -> Self:
        if (self.harness is None) != (self.why is not None):
            raise ValueError("a task has either the name of one in the harness, or why there is none")
        return self


class Tasks(Part):
    """A set of tasks. `only` names the ones to run; null: all that can be.

    `include` is a folder with task files of one's own, which may hold Python code that will run; it takes the
    place of the harness's own tasks. `users` requests are under way at a time. `limit` is the number of
    questions of each task, its first ones. A request has `timeout_s` seconds and is sent `tries` times at
    most. Without `download`, data that is not on this machine is not fetched. `resume`: whether answers of an
    interrupted run are reused; null: those of checkpoints that are served here, true: of running servers too,
    false: none.
    """

    name: str
    tasks: dict[str, Task] = Field(min_length=1)
    only: tuple[str, ...] | None
    include: Path | None
    sampling: Sampling
    users: int = Field(ge=1, le=1024)
    limit: int | None = Field(ge=1)
    timeout_s: float = Field(gt=0)
    tries: int = Field(ge=1)
    download: bool
    resume: bool | None

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [name for name in self.only or () if name not in self.tasks]
        if unknown:
            raise ValueError(f"tasks.only names {unknown[0]}: choose from {', '.join(self.tasks)}")
        for name in self.only or ():
            if self.tasks[name].harness is None:
                raise ValueError(f"task {name} cannot be run: {self.tasks[name].why}")
        if not self.chosen():
            raise ValueError("none of these tasks can be run")
        if any(task.repeats > 1 for task in self.chosen().values()) and not self.sampling.temperature:
            raise ValueError(
                "greedy answers are asked for once: with tasks.sampling.temperature=0, repeats should be 1"
            )
        return self

    def chosen(self) -> dict[str, Task]:
        """The tasks that run."""
        names = self.tasks if self.only is None else self.only
        return {name: self.tasks[name] for name in names if self.tasks[name].harness is not None}


class Policy(Part):
    """By which rule a candidate is accepted. Shares and scores are of 1.

    A task may lose `margin`, or what `margins` says of it. Intervals have `confidence`, the smallest
    detectable effect is for `power`. Nothing is decided with fewer than `questions_at_least`, when more than
    `missing_at_most` of the questions were not answered by the server, or when the reference was cut off, its
    answer not complete, in more than `cut_at_most`: then the limit was measured, not the model.
    """

    name: str
    margin: float = Field(ge=0, le=1)
    margins: dict[str, float]
    confidence: float = Field(gt=0.5, lt=1)
    power: float = Field(gt=0, lt=1)
    questions_at_least: int = Field(ge=2)
    missing_at_most: float = Field(ge=0, le=1)
    cut_at_most: float = Field(ge=0, le=1)
    resamples: int = Field(ge=100, le=1_000_000)
    seed: int = Field(ge=0)


class TasksConfig(Part):
    """The whole of `tasks`' configuration: two servers, asked one after the other."""

    reference: Target
    candidate: Target
    serving: Serving | None = None
    tasks: Tasks
    policy: Policy
    tracking: Tracking
    work_dir: Path

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_targets(self.serving, reference=self.reference, candidate=self.candidate)
        unknown = [name for name in self.policy.margins if name not in self.tasks.tasks]
        if unknown:
            raise ValueError(
                f"policy.margins names {unknown[0]}: the tasks are {', '.join(self.tasks.tasks)}"
            )
        return self
