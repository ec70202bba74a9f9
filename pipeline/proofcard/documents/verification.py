"""What a verification says, field by field. docs/verification.md explains levels and exit status."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Sha256

SCHEMA = "proofcard/verification/3"

Kind = Literal["missing", "extra", "mismatched"]
Result = Literal["verified", "verified, scales as given", "differs", "not checked"]
LevelResult = Literal["holds", "differs", "not checked", "not requested"]
Address = Annotated[str, Field(pattern=r"^hf://[^/@]+/[^/@]+@[0-9a-f]{40}$")]


class Seal(Document):
    """The manifest that was read: its key, and the sha256 of its file."""

    key: str
    sha256: Sha256 | None


class Difference(Document):
    """One difference. `offset` counts bytes from the beginning of the tensor."""

    kind: Kind
    message: str
    file: str | None = None
    tensor: str | None = None
    offset: NonNegativeInt | None = None
    expected: str | None = None
    found: str | None = None
    differing_bytes: NonNegativeInt | None = None
    cause: str | None = None


class Group(Document):
    """Differences of one kind in one place: a layer, a file, or what lies outside every layer."""

    kind: Kind
    where: str
    count: NonNegativeInt


class Differences(Document):
    """All are counted; the first of them are listed."""

    total: NonNegativeInt
    missing: NonNegativeInt
    extra: NonNegativeInt
    mismatched: NonNegativeInt
    groups: list[Group]
    listed: list[Difference]


class Unchecked(Document):
    """Sentences on what could not be checked, and why. All are counted; the first of them are listed."""

    total: NonNegativeInt
    listed: list[str]


class SearchedScales(Document):
    """One linear whose block scales a search chose: how many of them differ from the max rule's.

    `smallest`, `median` and `largest` are of the quotients of both, where any can be had.
    """

    linear: str
    blocks: NonNegativeInt
    differ: NonNegativeInt
    smallest: float | None = None
    median: float | None = None
    largest: float | None = None


class LevelOutcome(Document):
    """One level. `counts` says what was looked at, as in {"tensors": 615, "bytes": 4914264}.

    `rules`: by which rules the bytes of how many linears follow from the source.
    """

    result: LevelResult
    not_requested: str | None
    counts: dict[str, NonNegativeInt]
    differences: Differences
    notes: list[str]
    rules: dict[str, NonNegativeInt]
    scales: list[SearchedScales]
    unchecked: Unchecked


class Maker(Document):
    """Which program made it, inferred from its bytes (`identify=true`), and what its files say."""

    program: str | None
    evidence: list[str]
    labels: list[str]


class Verification(Document):
    """The outcome. The same checkpoint, source and kernels give the same bytes: no time, host or local path.

    `checkpoint` and `source` are addresses on the hub, null for local folders. `kernels` are the loops that
    repacked the source's weights, null if none ran; both give the same bytes.
    """

    schema_: Literal["proofcard/verification/3"] = Field(default="proofcard/verification/3", alias="schema")
    result: Result
    checkpoint: Address | None = None
    source: Address | None = None
    manifest: Seal | None
    kernels: Literal["compiled", "numpy"] | None = None
    maker: Maker | None = None
    levels: dict[str, LevelOutcome]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the report, as docs/verification.schema.json publishes it."""
    return {"$id": SCHEMA} | Verification.model_json_schema(by_alias=True)
