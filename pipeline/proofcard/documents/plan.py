"""What a recipe will do: inventory, work, memory, and where the result fits. Sizes in bytes."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Difference, Document, Json


class Recipe(Document):
    """A recipe's name and summary."""

    name: str
    summary: str


class Source(Document):
    """Where the source is from. `differences` are sentences on what in it is not as this program expects."""

    config: str
    repository: str | None
    revision: str | None
    differences: list[str]
    download: NonNegativeInt


class Model(Document):
    """The model's size. `context` is the longest sequence, in tokens."""

    architecture: str
    parameters: NonNegativeInt
    layers: NonNegativeInt
    hidden_size: NonNegativeInt
    experts: NonNegativeInt
    experts_per_token: NonNegativeInt | None
    context: NonNegativeInt


class Quantizers(Document):
    """ModelOpt's quantizers as counted, `by_formula`, and in a model that was dequantized first."""

    inserted: NonNegativeInt
    enabled: NonNegativeInt
    by_formula: NonNegativeInt
    inserted_after_dequantizing: NonNegativeInt


class Modules(Document):
    """Linears of one name but for their numbers; `glob` has the last word on their weights."""

    kind: str
    modules: NonNegativeInt
    selected: NonNegativeInt
    parameters: NonNegativeInt
    glob: str | None


class Glob(Document):
    """A pattern of ModelOpt's configuration: quantizers it matches, and those it has the last word on."""

    glob: str
    enables: bool
    matches: NonNegativeInt
    decides: NonNegativeInt


class ExportGroup(Document):
    """Tensors of the checkpoint of one role and dtype."""

    role: str
    dtype: str
    tensors: NonNegativeInt
    bytes: NonNegativeInt


class Export(Document):
    """The checkpoint: tensors, their bytes, and the size of each file of weights."""

    tensors: NonNegativeInt
    bytes: NonNegativeInt
    files: dict[str, NonNegativeInt]
    groups: list[ExportGroup]


class PerExpert(Document):
    """Positions that an expert sees: those the router sends it, and those that calibrate it."""

    routed: NonNegativeInt
    seen: NonNegativeInt


class CoverageRow(Document):
    """Positions that an expert sees with so many samples; `as_run` at the length the card really used."""

    samples: NonNegativeInt
    positions: NonNegativeInt
    routed: NonNegativeInt
    forced: NonNegativeInt
    routed_as_run: NonNegativeInt
    forced_as_run: NonNegativeInt


class Memory(Document):
    """Bytes of memory and disk, for both engines."""

    source: NonNegativeInt
    export: NonNegativeInt
    layer: NonNegativeInt
    layerwise_gpu: NonNegativeInt
    layerwise_host: NonNegativeInt
    layerwise_host_without_gpu: NonNegativeInt
    layerwise_disk: NonNegativeInt
    hidden_states: NonNegativeInt
    modelopt_gpu_and_host: NonNegativeInt
    modelopt_disk: NonNegativeInt


class Work(Document):
    """What calibration takes at most: every sample counts at its full length."""

    samples: NonNegativeInt
    positions: NonNegativeInt
    positions_per_expert: PerExpert | None
    flop_routed: NonNegativeInt
    flop_forced: NonNegativeInt
    flop_forced_modelopt: NonNegativeInt
    coverage_table: list[CoverageRow]
    memory: Memory


class EvaluationWork(Document):
    """What `evaluate` takes of the result: `evaluation=protocol`, every text at its full length."""

    texts: NonNegativeInt
    positions: NonNegativeInt
    runs: NonNegativeInt
    flop: NonNegativeInt
    gpu: NonNegativeInt
    host_without_gpu: NonNegativeInt
    disk: NonNegativeInt
    read: NonNegativeInt
    reading_floor_hours: float


class Machine(Document):
    """The machine that planned: cores, memory, and free room where the work would be."""

    cores: NonNegativeInt
    memory: NonNegativeInt
    disk_free: NonNegativeInt


class Tokens(Document):
    """Tokens with a KV cache in BF16, and in FP8."""

    bf16: NonNegativeInt
    fp8: NonNegativeInt


class Claim(Document):
    """What a published card says of this hardware, and a correction where that is wrong."""

    repository: str
    weights: str
    kv_tokens: str
    context: str
    correction: str | None


class Fit(Document):
    """The checkpoint on the GPUs of a profile. `runs` is how they compute NVFP4 products."""

    profile: str
    gpus: NonNegativeInt
    runs: Literal["native", "W4A16", "no"]
    fits: bool
    weights_per_gpu: NonNegativeInt
    kv_tokens: Tokens
    context: Tokens
    calibration_floor_hours: float | None
    evaluation_floor_hours: float | None
    card: list[Claim]


class Plan(Document):
    """The plan of one recipe."""

    schema_: Literal["proofcard/plan/1"] = Field(default="proofcard/plan/1", alias="schema")
    recipe: Recipe
    config: dict[str, Json]
    source: Source
    model: Model
    quantizers: Quantizers
    modules: list[Modules]
    globs: list[Glob]
    export: Export
    work: Work
    evaluation: EvaluationWork
    machine: Machine
    serving: list[Fit]


class Plans(Document):
    """Two recipes side by side: what differs, the numbers that this changes, and both plans."""

    schema_: Literal["proofcard/plans/1"] = Field(default="proofcard/plans/1", alias="schema")
    recipes: list[str]
    configuration: list[Difference]
    changes: list[Difference]
    plans: list[Plan]
