"""A checkpoint beside its source, field by field. docs/evaluation.md derives every number."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from proofcard.documents.base import Document, Sha256


class Estimate(Document):
    """A number and its 95% interval over documents.

    Both ends are null where fewer than two documents leave nothing to draw, or where a drawn set may have no
    such number.
    """

    value: float
    low: float | None
    high: float | None


class Subject(Document):
    """A folder of weights: the digest of its table of files, and the key that sealed it, if it was sealed."""

    files_sha256: Sha256
    key: Sha256 | None = None
    recipe: str | None = None


class Texts(Document):
    """What both models read. `samples_key` is the sample set that these texts are proven not to be in."""

    documents: PositiveInt
    tokens: PositiveInt
    positions: PositiveInt
    sha256: Sha256
    datasets: dict[str, PositiveInt]
    samples_key: Sha256 | None


class Divergence(Document):
    """How far a model's next-token distributions are from the source's, over some of the documents."""

    documents: PositiveInt
    positions: PositiveInt
    numbers: dict[str, Estimate]


class Stream(Document):
    """One run beside the source; of a `cell` another model's routes were replayed."""

    name: str
    role: Literal["candidate", "cell"]
    all: Divergence
    by_dataset: dict[str, Divergence]


class Cost(Document):
    """What one part of the quantization adds to the mean divergence, in nats a position."""

    cost: str
    before: str | None
    after: str
    kl_mean: Estimate


class Block(Document):
    """The router of a mixture of experts, by candidate; null where it is not known how it chooses."""

    block: str
    overlap: dict[str, Estimate] | None
    moved: dict[str, Estimate] | None


class Layer(Document):
    """One decoder layer. `error` by stream, of its output; `growth` from the layer before."""

    layer: NonNegativeInt
    error: dict[str, Estimate]
    growth: dict[str, float | None]
    local: Estimate
    share: Estimate
    blocks: list[Block]


class Expert(Document):
    """One expert on the rows that the source's router sent it; `share` is of all experts' squared error.

    `error` is null where it got no row, and its interval where so few documents sent it any that a drawn set
    may have none: then `rows` is all that can be given.
    """

    layer: NonNegativeInt
    expert: str
    rows: NonNegativeInt
    error: Estimate | None
    share: Estimate


class Evaluation(Document):
    """What a checkpoint lost, and where. `last` is the candidate of which `local` and experts are."""

    schema_: Literal["proofcard/evaluation/2"] = Field(default="proofcard/evaluation/2", alias="schema")
    checkpoint: Subject
    source: Subject
    texts: Texts
    resamples: PositiveInt
    seed: NonNegativeInt
    last: str
    streams: list[Stream]
    costs: list[Cost]
    layers: list[Layer]
    experts: list[Expert]
