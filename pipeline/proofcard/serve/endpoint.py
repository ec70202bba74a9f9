"""Where a running engine answers."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. `url` ends in /v1; `pid` is the engine's own process, `log` its output.

    `tokenizer` is a folder with the model's tokenizer, for clients that count tokens themselves.
    """

    url: str
    model: str
    api_key: str | None = field(repr=False)
    tokenizer: Path | None
    engine: str
    pid: int
    log: Path
    ready_s: float = 0.0

    @property
    def says_done(self) -> bool:
        """Whether the engine is one that ends every whole stream with `[DONE]`."""
        return self.engine in ("sglang", "vllm")
