"""The result of rebuilding a checkpoint from its manifest. docs/reproduce.md explains every field."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Json, Sha256

Outcome = Literal["reproduced", "reproduced within ULP", "not reproduced"]
Effect = Literal["any byte", "calibration", "samples", "nothing by itself"]


class Difference(Document):
    """What differs from the manifest before the work. `may_change` says what it may affect."""

    what: str
    recorded: Json
    here: Json
    may_change: Effect


class Distance(Document):
    """A calibrated tensor whose bytes differ. `ulp` counts BF16 steps of its amax; null where unknown."""

    tensor: str
    recorded_amax: float | None
    made_amax: float | None
    ulp: NonNegativeInt | None


class FirstDifference(Document):
    """The first difference by name: of a tensor, or, where all tensors are equal, of a file."""

    tensor: str | None
    file: str
    kind: Literal["missing", "extra", "mismatched"]
    recorded: str | None
    made: str | None


class Counts(Document):
    """How many are recorded, how many of them are the same here."""

    recorded: NonNegativeInt
    equal: NonNegativeInt


class Samples(Document):
    """The sample set: taken as it was sealed, or drawn again; the digests of its files and tensors."""

    drawn: bool
    recorded: Sha256
    made: Sha256


class Reproduction(Document):
    """The outcome and its evidence."""

    schema_: Literal["proofcard/reproduction/1"] = Field(default="proofcard/reproduction/1", alias="schema")
    outcome: Outcome
    recipe: str | None
    recorded_key: Sha256
    made_key: Sha256
    differences: list[Difference]
    samples: Samples
    files: Counts
    tensors: Counts
    calibrated: Counts
    ulp_bound: NonNegativeInt
    largest_ulp: NonNegativeInt | None
    distances: Annotated[list[Distance], Field(max_length=200)]
    first: FirstDifference | None
    cause: str | None
