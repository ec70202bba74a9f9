"""Two runs side by side: what differs in their making, in bytes and in figures, and what explains what."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Json, Sha256
from proofcard.documents.reproduction import Effect

Kind = Literal["configuration", "toolchain", "data", "platform", "environment", "measurement"]
May = Effect | Literal["figures"]
Outcome = Literal["weights", "calibrated scales", "other files", "metrics"]


class RunSide(Document):
    """A checkpoint as it was named. `run` is its run in MLflow, null where none is tracked."""

    name: str
    recipe: str | None
    key: Sha256
    run: str | None


class Cause(Document):
    """What differs in the making or measuring of both, and what such a difference may change.

    A `measurement` setting is what the newest run of `evaluate`, `serve`, `benchmark` or `tasks` has logged.
    """

    kind: Kind
    what: str
    a: Json
    b: Json
    may_change: May


class Role(Document):
    """Tensors of one role: how many there are on either side, and how many are the same on both."""

    role: str
    a: NonNegativeInt
    b: NonNegativeInt
    equal: NonNegativeInt


class Metric(Document):
    """A headline figure of the checkpoint's run; null on a side that has none."""

    name: str
    a: float | None
    b: float | None


class Explanation(Document):
    """One outcome: how many of how many differ, and the causes that may change it, the likeliest first.

    `largest_ulp` is the largest distance of two scales in steps of BF16, null where it is not known.
    """

    outcome: Outcome
    differ: NonNegativeInt
    of: NonNegativeInt
    largest_ulp: NonNegativeInt | None = None
    by: list[str]


class RunComparison(Document):
    """Two runs side by side, from their manifests and from what was tracked; no tensor is read."""

    schema_: Literal["proofcard/run-comparison/1"] = Field(
        default="proofcard/run-comparison/1", alias="schema"
    )
    a: RunSide
    b: RunSide
    causes: list[Cause]
    tensors: list[Role]
    files: list[str]
    metrics: list[Metric]
    explanations: list[Explanation]
