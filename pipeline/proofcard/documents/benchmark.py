"""Throughput and latency of a server, as they were measured. docs/benchmarking.md defines every figure."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Json, Sha256


class Spread(Document):
    """A figure over the starts of a server."""

    mean: float
    least: float
    most: float


class Point(Document):
    """A level at one start. Figures are null if every request failed, or they are not available.

    Tokens are output tokens except in `tokens_a_prompt`. `first_ms` is the time to first token (TTFT),
    `each_ms` the inter-token latency (ITL), `request_s` a request's seconds. Memory is a peak, power a mean.
    """

    users: NonNegativeInt
    requests: NonNegativeInt
    failed: NonNegativeInt
    first_failure: str | None = None
    tokens_per_s: float | None = None
    tokens_per_s_user: float | None = None
    tokens_an_answer: float | None = None
    tokens_fewest: float | None = None
    tokens_most: float | None = None
    tokens_a_prompt: float | None = None
    first_ms_mean: float | None = None
    first_ms_p50: float | None = None
    first_ms_p90: float | None = None
    first_ms_p99: float | None = None
    each_ms_mean: float | None = None
    each_ms_p50: float | None = None
    each_ms_p90: float | None = None
    each_ms_p99: float | None = None
    request_s_mean: float | None = None
    request_s_p50: float | None = None
    request_s_p90: float | None = None
    request_s_p99: float | None = None
    rss_gib: float | None = None
    gpu_gib: float | None = None
    gpu_watts: float | None = None


FIGURES = tuple(Point.model_fields)[4:]
"""The names of all figures."""


class ClientShare(Document):
    """The client's overhead at a level, as shares of 1: `share` is the largest of the three after it.

    `first_ms` is the delay of first tokens.
    """

    users: NonNegativeInt
    share: float
    latency: float
    each: float
    throughput: float
    first_ms: float


class Level(Document):
    """A level over all starts: the figures of `Point`, each with its spread; counts are sums.

    `client` is null until the client is measured alone; `doubts` are sentences on why the figures may not
    be reliable.
    """

    users: NonNegativeInt
    starts: NonNegativeInt
    requests: NonNegativeInt
    failed: NonNegativeInt
    first_failure: str | None = None
    tokens_per_s: Spread | None = None
    tokens_per_s_user: Spread | None = None
    tokens_an_answer: Spread | None = None
    tokens_fewest: Spread | None = None
    tokens_most: Spread | None = None
    tokens_a_prompt: Spread | None = None
    first_ms_mean: Spread | None = None
    first_ms_p50: Spread | None = None
    first_ms_p90: Spread | None = None
    first_ms_p99: Spread | None = None
    each_ms_mean: Spread | None = None
    each_ms_p50: Spread | None = None
    each_ms_p90: Spread | None = None
    each_ms_p99: Spread | None = None
    request_s_mean: Spread | None = None
    request_s_p50: Spread | None = None
    request_s_p90: Spread | None = None
    request_s_p99: Spread | None = None
    rss_gib: Spread | None = None
    gpu_gib: Spread | None = None
    gpu_watts: Spread | None = None
    client: ClientShare | None = None
    doubts: list[str] = Field(default_factory=list)

    def figures(self) -> dict[str, Spread]:
        """The available figures by name."""
        named = ((name, getattr(self, name)) for name in FIGURES)
        return {name: spread for name, spread in named if spread is not None}

    def mean(self, name: str) -> float | None:
        """A figure's mean over the starts, if available."""
        spread: Spread | None = getattr(self, name)
        return None if spread is None else spread.mean


class Start(Document):
    """A start of the server: seconds until its first answer, and its levels."""

    ready_s: float
    points: list[Point]


class Server(Document):
    """What was measured: a sealed checkpoint has a `key`, a running server a `model`."""

    label: str
    key: Sha256 | None
    checkpoint: str | None = None
    model: str | None = None


class Results(Document):
    """A benchmark. `complete` once every start and the client alone have all levels.

    `dialect` is the form of requests for a fixed answer length, `usage` whether the server counts tokens
    itself; both are null before the first request.
    """

    schema_: Literal["proofcard/benchmark/3"] = Field(default="proofcard/benchmark/3", alias="schema")
    complete: bool = False
    name: str
    load: dict[str, Json]
    serving: dict[str, Json] | None
    server: Server
    dialect: str | None = None
    usage: bool | None = None
    prompts_sha256: Sha256 | None = None
    aiperf: str | None = None
    machine_absent: str = ""
    starts: list[Start] = Field(default_factory=list)
    levels: list[Level] = Field(default_factory=list)
    client: list[ClientShare] = Field(default_factory=list)


class Rate(Document):
    """Tokens per second of all users together."""

    users: NonNegativeInt
    tokens_per_s: float


class Row(Document):
    """One configuration: the folder of its results and its rates, or why it `failed` or was `refused`."""

    configuration: str
    overrides: list[str]
    results: str | None = None
    rates: list[Rate] = Field(default_factory=list)
    doubted: list[NonNegativeInt] = Field(default_factory=list)
    failed: str | None = None
    refused: bool = False


class Configurations(Document):
    """Several configurations, measured one after the other."""

    schema_: Literal["proofcard/benchmarks/1"] = Field(default="proofcard/benchmarks/1", alias="schema")
    rows: list[Row]
