"""From a serving profile to the command line that starts its engine."""

import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.serving import Flag, Serving


@dataclass(frozen=True)
class Launch:
    """What is executed, and the variables that are set beside those of this process."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def launch(serving: Serving, model: Path, port: int) -> Launch:
    """The command line of an engine that loads the folder `model` and listens on `port`."""
    return _transformers(serving, model, port)


def _transformers(serving: Serving, model: Path, port: int) -> Launch:
    argv = (sys.executable, "-m", "pipeline.serve.transformers_server", f"--force-model={model}")
    rest = options(serving.flags | {"host": serving.host, "port": port})
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_MODULES_CACHE": str(model.parent / ".modules"),  # its copy of the checkpoint's own code
        "CUDA_VISIBLE_DEVICES": "",
    }
    return Launch((*argv, *rest), offline | serving.environment)


def options(flags: dict[str, Flag]) -> list[str]:
    """`--name value` for each flag in order; a true one stands alone, a false or null one is left out."""
    words: list[str] = []
    for name, value in flags.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return words
