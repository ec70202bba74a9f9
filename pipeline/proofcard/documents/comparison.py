"""The differences between two checkpoints of one model."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Difference, Document, Sha256


class Side(Document):
    """A checkpoint by its folder's name. Recipe and key are null if it was never sealed.

    `altered` are the sealed files that are altered or missing.
    """

    name: str
    recipe: str | None
    key: Sha256 | None
    altered: list[str]


class Ratio(Document):
    """b / a of single-valued tensors."""

    smallest: float
    median: float
    largest: float


class TensorGroup(Document):
    """Tensors of one role and one dtype on either side, "" where that side has none.

    `bytes_differ` counts bytes of equal dtype and shape, `steps` the largest distance in units of the last
    place, `rounded` pairs of F32 and BF16 that agree after rounding to BF16.
    """

    role: str
    dtype_a: str
    dtype_b: str
    tensors: NonNegativeInt
    differ: NonNegativeInt
    bytes_a: NonNegativeInt
    bytes_b: NonNegativeInt
    bytes_differ: NonNegativeInt
    steps: NonNegativeInt
    rounded: NonNegativeInt
    ratio: Ratio | None = None


class FileDifference(Document):
    """A file without weights whose digests differ; null if a side has none."""

    name: str
    a: Sha256 | None
    b: Sha256 | None


class ScaleRatio(Document):
    """The exported amaxes of a group of quantizers, those of b divided by those of a. Shares are of 1."""

    quantizers: NonNegativeInt
    equal: float
    within_1_percent: float
    within_5_percent: float
    smallest: float
    median: float
    largest: float


class Pair(Document):
    """Dequantized weights of a and b: one linear, or all of a layer or kind.

    `codes` are E2M1 codes where both sides have them, `differ` those that differ, `steps` how many differ by
    one step of the code's scale, two, and more. Errors are sums of squares: of b from a, of either from the
    source, and of the source itself; null without a source.
    """

    name: str
    linears: NonNegativeInt
    weights: NonNegativeInt
    codes: NonNegativeInt
    differ: NonNegativeInt
    steps: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    between: float
    error_a: float | None = None
    error_b: float | None = None
    energy: float | None = None


class Closeness(Document):
    """Two checkpoints after dequantization, whichever tool made them.

    `closer` counts the linears in which a, b, or neither has the smaller error. `folded` are the sides whose
    weights hold factors of other tensors (AWQ, SVDQuant): their error is meaningless.
    """

    closer: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] | None
    folded: list[Literal["a", "b"]]
    mappings: list[str]
    total: Pair
    kinds: list[Pair]
    layers: list[Pair]
    linears: list[Pair]


class Coverage(Document):
    """Positions per expert and layer, padding included."""

    experts: NonNegativeInt
    cold: NonNegativeInt
    routed_smallest: NonNegativeInt
    routed_mean: NonNegativeInt
    routed_largest: NonNegativeInt
    forced_experts: NonNegativeInt
    forced_largest: NonNegativeInt


class Comparison(Document):
    """Two checkpoints side by side.

    `coverage` is of a and b, null where a side does not carry it. `scales` is empty unless both carry their
    calibration's tables, and have the same quantizers.
    """

    schema_: Literal["proofcard/comparison/2"] = Field(default="proofcard/comparison/2", alias="schema")
    a: Side
    b: Side
    tensors: list[TensorGroup]
    files: list[FileDifference]
    configuration: list[Difference]
    statistics: list[Difference]
    coverage: list[Coverage | None]
    scales: dict[str, ScaleRatio]
    weights: Closeness | None = None

    def sides(self) -> list[Side]:
        """a, then b."""
        return [self.a, self.b]
