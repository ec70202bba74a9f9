"""The configuration of `benchmark`: the load, its target, and published numbers for comparison."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from proofcard.bundle import bundled
from proofcard.config.schema import Part, Tracking
from proofcard.config.serving import Serving, Truth


class Benchmark(Part):
    """A closed loop of users: each sends a request, reads the whole answer, and sends the next.

    `levels` are numbers of users. At each, after `warmup_waves` warm-up requests per user, every
    user sends `waves`, or more until `fewest_requests` are sent. Lengths are in tokens, times in seconds; an
    answer is `output_tokens` long, whatever the model would answer. The server is started `restarts`
    times, and each time all levels are measured. `beside` lists the published series of
    `conf/benchmark/published` to compare with.
    """

    name: str
    levels: tuple[int, ...] = Field(min_length=1)
    waves: int = Field(ge=1)
    warmup_waves: int = Field(ge=1)
    fewest_requests: int = Field(ge=1)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=2)
    temperature: float = Field(ge=0)
    seed: int = Field(ge=0)
    restarts: int = Field(ge=1)
    request_timeout_s: float = Field(gt=0)
    beside: tuple[str, ...]

    @model_validator(mode="after")
    def _levels_rise(self) -> Self:
        if list(self.levels) != sorted({*self.levels}) or self.levels[0] < 1:
            raise ValueError("levels must be increasing numbers of users, from 1")
        return self

    def requests(self, users: int) -> int:
        """The number of measured requests at a level: a multiple of its users."""
        return users * max(self.waves, -(-self.fewest_requests // users))


def _profiles() -> list[str]:
    """The names of the serving profiles."""
    return sorted(path.stem for path in bundled("conf/serving").glob("*.yaml"))


class BenchmarkConfig(Part):
    """The configuration of `benchmark`: a running server, or a checkpoint and how to serve it."""

    endpoint: str | None
    model: str | None
    tokenizer: Path | None
    api_key_file: Path | None
    checkpoint: Path | None
    serving: Serving | None = None
    truth: Truth
    benchmark: Benchmark
    against: Path | None
    tracking: Tracking
    work_dir: Path

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.endpoint is None and self.checkpoint is not None and self.serving is None:
            raise ValueError(
                f"a checkpoint has to be served: give serving=PROFILE, one of {', '.join(_profiles())}"
            )
        if self.endpoint is None and self.checkpoint is None and self.serving is not None:
            raise ValueError("serving goes with a checkpoint: give checkpoint=DIR, or leave it out")
        if self.endpoint is None and self.checkpoint is None:
            raise ValueError(
                "nothing to measure: set endpoint=http://HOST:PORT/v1, or checkpoint=DIR serving=PROFILE"
            )
        if self.endpoint is not None and (self.checkpoint is not None or self.serving is not None):
            raise ValueError("endpoint is a running server: remove checkpoint and serving, or endpoint")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint={self.endpoint}: must be a URL such as http://127.0.0.1:8000/v1")
        if self.endpoint is not None and self.tokenizer is None:
            raise ValueError("tokenizer is missing: set tokenizer=DIR, a folder with the model's tokenizer")
        if self.endpoint is None and (self.model or self.tokenizer or self.api_key_file):
            raise ValueError("model, tokenizer and api_key_file are only allowed with endpoint")
        return self


class Published(Part):
    """Published numbers of others: aggregate and per-user tokens/s by concurrent requests, as printed.

    `most_running` is their server's limit of concurrently running requests, if published.
    """

    name: str
    source: str
    setting: str
    most_running: int | None
    aggregate: dict[int, float]
    per_user: dict[int, float]
