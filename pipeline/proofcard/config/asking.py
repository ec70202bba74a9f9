"""Which server is asked: one that runs, or a checkpoint that is served for the occasion."""

from pathlib import Path
from typing import Self

from pydantic import model_validator

from proofcard.config.schema import Part
from proofcard.config.serving import Serving


class Target(Part):
    """A server: `endpoint`, an address ending in /v1, or `checkpoint`, a folder that a profile serves.

    `model` is what the server calls it, null the first that it names. The file `api_key_file` holds the key
    that the server wants. Both go with `endpoint`.
    """

    checkpoint: Path | None = None
    endpoint: str | None = None
    model: str | None = None
    api_key_file: Path | None = None

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if (self.checkpoint is None) == (self.endpoint is None):
            raise ValueError(
                "give either endpoint=http://HOST:PORT/v1 of a server that runs, or checkpoint=DIR"
            )
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(
                f"endpoint={self.endpoint}: should be an address such as http://127.0.0.1:8000/v1"
            )
        if self.endpoint is None and (self.model is not None or self.api_key_file is not None):
            raise ValueError("model and api_key_file go with endpoint, and only with it")
        return self


def check_serving(serving: Serving | None, *targets: Target) -> None:
    """Raises ValueError unless there is a profile exactly where a checkpoint has to be served."""
    served = any(target.checkpoint is not None for target in targets)
    if served and serving is None:
        raise ValueError("a checkpoint has to be served: give serving=PROFILE, an option of conf/serving")
    if serving is not None and not served:
        raise ValueError("serving goes with a checkpoint: leave it out, or give checkpoint=DIR")
