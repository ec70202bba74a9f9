"""Which server is asked: one that runs, or a checkpoint that is served for the occasion."""

from pathlib import Path

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


def check_targets(serving: Serving | None, **targets: Target) -> None:
    """Each target is one server, and there is a profile exactly where a checkpoint has to be served.

    Targets are named by the keys that hold them; the name `itself` is for one at the top.

    Raises:
        ValueError: with what to give instead.
    """
    for name, target in targets.items():
        _check(target, "" if name == "itself" else f"{name}.")
    served = any(target.checkpoint is not None for target in targets.values())
    if served and serving is None:
        raise ValueError("a checkpoint has to be served: give serving=PROFILE, an option of conf/serving")
    if serving is not None and not served:
        raise ValueError("serving goes with a checkpoint: leave it out, or give checkpoint=DIR")


def _check(target: Target, key: str) -> None:
    if (target.checkpoint is None) == (target.endpoint is None):
        raise ValueError(
            f"give either {key}endpoint=http://HOST:PORT/v1 of a server that runs, or {key}checkpoint=DIR"
        )
    if target.endpoint is not None and not target.endpoint.startswith(("http://", "https://")):
        raise ValueError(
            f"{key}endpoint={target.endpoint}: should be an address such as http://127.0.0.1:8000/v1"
        )
    if target.endpoint is None and (target.model is not None or target.api_key_file is not None):
        raise ValueError(f"{key}model and {key}api_key_file go with {key}endpoint, and only with it")
