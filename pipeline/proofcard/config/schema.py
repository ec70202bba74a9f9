"""The schema of the configuration: frozen pydantic models that forbid unknown keys.

A field of type `Path` says where things are, never what they are, so it is in no manifest. Every field of
`QuantizeConfig` is part of a key, except those in `deciding.NOT_DECIDING`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proofcard.deciding import adapters

PLAIN_TEXT = ("cnn_dailymail", "text")
"""Adapters whose rows are not conversations, so that no chat template can be used."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A frozen part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> dict[str, Any]:
        """The values recorded in a manifest: everything but `Path` fields, as plain JSON values."""
        fields = type(self).model_fields.items()
        what = [name for name, field in fields if Path not in (field.annotation, *get_args(field.annotation))]
        return {name: _plain(getattr(self, name)) for name in what}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.identity()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


class Recipe(Part):
    """A recipe's name and one-line summary."""

    name: str
    summary: str


class Model(Part):
    """The source checkpoint: a local folder, or a repository of the hub at a commit.

    `config` is a copy of its config.json, for `plan`. `remote_code` pins the sha256 of each Python file that
    may be run. `ignored_keys` are keys of config.json that the model's class may ignore.
    """

    name: str
    repository: str | None
    revision: str | None
    path: Path | None
    config: Path | None
    remote_code: dict[str, Sha256]
    ignored_keys: tuple[str, ...] = ()
    attn_implementation: Literal["eager", "sdpa"]


def _known_adapter(name: str) -> str:
    if name not in adapters():
        raise ValueError(f"one of {', '.join(adapters())}")
    return name


class Dataset(Part):
    """One calibration dataset: which adapter reads its rows, where they are, how many samples.

    The samples are divided evenly over the splits, the remainder going to the last. `subset` is what the hub
    calls a dataset's configuration.
    """

    adapter: Annotated[str, AfterValidator(_known_adapter)]
    repository: str
    revision: str | None
    subset: str | None
    splits: tuple[str, ...] = Field(min_length=1)
    path: Path | None
    samples: int = Field(ge=1)

    @model_validator(mode="after")
    def _each_split_once(self) -> Self:
        if len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits has a duplicate: {', '.join(self.splits)}")
        return self


class Sampling(Part):
    """Choice of rows: `datasets`' streaming shuffle with a buffer, as the card patches it in; the first ones;
    or `uniform`, every row of the split equally likely.
    """

    method: Literal["shuffle_buffer", "uniform", "first"]
    seed: int = Field(ge=0)
    buffer_size: int = Field(ge=1)


class Calibration(Part):
    """The calibration samples, and how they become batches. Lengths in tokens.

    Samples are padded to the longest of their `batch`, or of the whole `set` as ModelOpt's data loader does.
    `frozen` is a sealed sample set of the same configuration to reuse instead of drawing one, and
    `frozen_sha256` the digest of its manifest.json.
    """

    datasets: dict[str, Dataset] = Field(min_length=1)
    sampling: Sampling
    sequence_length: int = Field(ge=1)
    chat_template: bool
    batch_size: int = Field(ge=1)
    padding_side: Literal["left", "right"]
    pad_to: Literal["batch", "set"]
    attention_mask: bool
    frozen: Path | None
    frozen_sha256: Sha256 | None

    def identity(self) -> dict[str, Any]:
        """What the samples are: the same whether they are drawn or taken from a frozen set.

        `order` has the names of the datasets: JSON objects have no order, and samples come in it.
        """
        said = {key: value for key, value in super().identity().items() if key != "frozen_sha256"}
        return said | {"order": list(self.datasets)}


class Quantization(Part):
    """ModelOpt's configuration by name.

    `dequantize_to` is the dtype to which FP8 source weights are dequantized: what is not
    quantized is written in it, and block scales are computed from it. The model and codes use BF16.
    """

    format: Literal["nvfp4_experts_only", "nvfp4_mlp_only"]
    dequantize_to: Literal["bfloat16", "float32"]


class Coverage(Part):
    """Which tokens calibrate an expert. `minimum_tokens` is only for `top_up`."""

    name: Literal["natural", "all_experts", "top_up"]
    minimum_tokens: int | None = Field(ge=1)


class KvCache(Part):
    """KV-cache format: calibrated `fp8` scales, `fp8_affine` with biases, `fp8_cast` ones, or `none`."""

    format: Literal["fp8", "fp8_affine", "fp8_cast", "none"]


class Engine(Part):
    """The engine that runs the calibration."""

    name: Literal["layerwise", "modelopt"]


class Toolchain(Part):
    """The patch series for ModelOpt."""

    series: Literal["fixed", "as_published", "none"]


class Hardware(Part):
    """The hardware to use. `threads` 0 means all cores available to this process; `screen` auto leaves out
    products of the forced pass that can change no statistic, where that is faster.
    """

    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=0)
    activation_memory_gib: float = Field(ge=0)
    screen: Literal["auto", "off"] = "auto"


class Tracking(Part):
    """MLflow. `uri` null turns tracking off, and so does a missing SQLite file where `create` is false."""

    uri: str | None
    experiment: str
    create: bool = True


class QuantizeConfig(Part):
    """The whole of `quantize`'s configuration.

    `ulp_bound` is by how many steps of BF16 a calibrated amax may be another on another numeric platform.
    """

    recipe: Recipe
    model: Model
    calibration: Calibration
    quantization: Quantization
    coverage: Coverage
    kv_cache: KvCache
    engine: Engine
    toolchain: Toolchain
    hardware: Hardware
    tracking: Tracking
    seed: int = Field(ge=0)
    ulp_bound: int = Field(ge=0)
    work_dir: Path
    output_dir: Path | None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.hardware.device == "cpu" and self.toolchain.series != "fixed":
            raise ValueError(
                f"toolchain={self.toolchain.series} cannot export without a GPU driver: "
                "use toolchain=fixed, or hardware=cuda on a machine with one"
            )
        if self.engine.name == "layerwise" and self.toolchain.series != "fixed":
            raise ValueError(
                "engine=layerwise makes the bytes of toolchain=fixed: "
                f"for {self.toolchain.series} take engine=modelopt"
            )
        if (self.coverage.name == "top_up") != (self.coverage.minimum_tokens is not None):
            raise ValueError(
                "coverage.minimum_tokens is required with coverage=top_up, and only allowed with it"
            )
        if self.coverage.name == "top_up" and self.engine.name == "modelopt":
            raise ValueError("ModelOpt has no coverage=top_up: use engine=layerwise")
        without_chat = [n for n, d in self.calibration.datasets.items() if d.adapter in PLAIN_TEXT]
        if self.calibration.chat_template and without_chat:
            raise ValueError(
                f"calibration.chat_template=true, but dataset {without_chat[0]} has plain text, "
                "no messages: set calibration.chat_template=false or remove the dataset"
            )
        if self.calibration.frozen_sha256 is not None and self.calibration.frozen is None:
            raise ValueError("calibration.frozen_sha256 is only allowed with calibration.frozen")
        return self

    def identity(self) -> dict[str, Any]:
        """What is made, without where it runs, is stored and is logged."""
        said = super().identity()
        return {key: said[key] for key in said if key not in ("hardware", "tracking")}


LEVELS = ("integrity", "structure", "weights", "samples", "calibration", "signature")


@dataclass(frozen=True)
class HubAddress:
    """hf://OWNER/NAME@COMMIT, as it was written."""

    text: str

    def __str__(self) -> str:
        return self.text


def _place(value: Any) -> Any:
    return HubAddress(value) if isinstance(value, str) and value.startswith("hf://") else value


Place = Annotated[HubAddress | Path, BeforeValidator(_place)]
"""A local folder, or a repository of the hub at a commit."""


class VerifyConfig(Part):
    """The whole of `verify`'s configuration.

    `levels` null means every level its inputs allow, `samples` and `calibration` excepted: they take torch or
    transformers, and are run where they are asked for. `samples` is a sealed sample set, `datasets` copies of
    its datasets by name or `hub`; `layers` are those whose calibration is recomputed, `texts` a text file to
    judge scales by whose samples are unknown, `activations` a folder of hidden states to begin from, which
    `keep_activations` makes. `remote_code` are the sha256 of Python files that may be run. `junit` and
    `sarif` are files for the same outcome in those formats, `keep` leaves below `work_dir` what came from the
    hub. Who must have signed: `public_key`, somebody with a certificate from `certificate_chain`, or
    `signed_by`, an identity that `identity_provider` vouches for; `signature` is the file, model.sig if null.
    """

    checkpoint: Place
    source: Place | None
    levels: (
        tuple[Literal["integrity", "structure", "weights", "samples", "calibration", "signature"], ...] | None
    )
    scales: Literal["derived", "given"] = "derived"
    identify: bool = False
    report: Path | None
    junit: Path | None = None
    sarif: Path | None = None
    keep: bool = False
    samples: Path | None = None
    datasets: dict[str, Path] = Field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    activations: Path | None = None
    keep_activations: Path | None = None
    texts: Path | None = None
    remote_code: tuple[Sha256, ...] = ()
    ulp_bound: int | None = Field(default=None, ge=0)
    public_key: Path | None = None
    certificate_chain: tuple[Path, ...] = ()
    signed_by: str | None = None
    identity_provider: str | None = None
    signature: Path | None = None
    tracking: Tracking = Tracking(uri=None, experiment="proofcard")
    work_dir: Path = Path("runs")


class AnalyseConfig(Part):
    """The configuration of `analyse`."""

    checkpoint: Path
    report: Path | None
    tracking: Tracking
    work_dir: Path


class CompareConfig(Part):
    """The configuration of `compare`."""

    a: Path
    b: Path
    source: Path | None = None
    report: Path | None
    tracking: Tracking
    work_dir: Path
