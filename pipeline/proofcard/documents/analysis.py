"""What a checkpoint's calibration was worth. A *part* is an amax divided by the last measured one."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Sha256


class Origin(Document):
    """The checkpoint that was analysed."""

    key: Sha256
    recipe: str | None


class Counted(Document):
    """Tensors of one kind and their bytes."""

    tensors: NonNegativeInt
    bytes: NonNegativeInt


class CalibratedBytes(Document):
    """Bytes of tensors that calibration decides, by kind, in all, and as a share of `total`."""

    kinds: dict[str, Counted]
    bytes: NonNegativeInt
    total: NonNegativeInt
    share: float


class Nearness(Document):
    """How near the parts of quantizers are to 1: shares of them, median and smallest; null without any."""

    quantizers: NonNegativeInt
    equal: float | None = None
    within_1_percent: float | None = None
    within_5_percent: float | None = None
    median: float | None = None
    smallest: float | None = None


class Mark(Nearness):
    """After so many samples."""

    samples: NonNegativeInt


class Unreached(Nearness):
    """`unreached` counts the quantizers that the router sent nothing."""

    unreached: NonNegativeInt


class Routed(Nearness):
    """Quantizers of experts that the router had sent `from_` positions or more, up to the next entry."""

    from_: NonNegativeInt = Field(alias="from")


class DatasetPart(Document):
    """What a dataset alone would have given, `near` by group.

    `sets` counts the quantizers whose amax it reaches, `sets_alone` those where no other does; `routed`,
    `cold` and `smallest` count positions of experts, null without experts.
    """

    dataset: str
    sets: NonNegativeInt
    sets_alone: NonNegativeInt
    near: dict[str, Nearness]
    routed: NonNegativeInt | None
    cold: NonNegativeInt | None
    smallest: NonNegativeInt | None


class LayerSpread(Document):
    """Positions that the experts of a layer saw."""

    layer: NonNegativeInt
    smallest: NonNegativeInt
    median: float
    largest: NonNegativeInt
    cold: NonNegativeInt


class Spread(Document):
    """How the routers spread the positions over all experts.

    `below` counts experts below a number of positions. `zipf` is the slope of log positions over log rank, by
    least squares in each layer, the mean of layers. A ratio is null where there is nothing to divide by.
    """

    experts: NonNegativeInt
    positions: NonNegativeInt
    mean: float
    smallest: NonNegativeInt
    tenth_percentile: float
    median: float
    largest: NonNegativeInt
    mean_over_smallest: float | None
    mean_over_tenth_percentile: float | None
    largest_over_mean: float
    zipf: float
    below: dict[str, NonNegativeInt]
    layers: list[LayerSpread]


class Forcing(Document):
    """What forced tokens added to what the router sent, by group: the natural part of each amax."""

    near: dict[str, Unreached]
    by_routed: dict[str, list[Routed]]


class Analysis(Document):
    """Everything that is measured. `coverage` is null without experts, `forcing` where nothing was forced."""

    schema_: Literal["proofcard/analysis/2"] = Field(default="proofcard/analysis/2", alias="schema")
    checkpoint: Origin
    samples: NonNegativeInt
    bytes: CalibratedBytes
    convergence: dict[str, list[Mark]]
    datasets: list[DatasetPart]
    coverage: Spread | None
    forcing: Forcing | None
