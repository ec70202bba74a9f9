"""Turns a serving profile into the command line that starts its engine."""

import sys
from dataclasses import dataclass
from pathlib import Path

from proofcard.config.serving import Flag, Serving
from proofcard.environments import Extra, program
from proofcard.serve import keyed

EXTRA: dict[str, Extra] = {"sglang": "serve", "vllm": "vllm"}  # the extra whose environment an engine runs in
_MODULE = {"sglang": "sglang.launch_server", "vllm": "vllm.entrypoints.openai.api_server"}
_MODEL = {"sglang": "model-path", "vllm": "model"}
_CLOSED = {  # no downloads, and no imports from the working directory
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONSAFEPATH": "1",
}
_QUIET = {  # no telemetry
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Launch:
    """The command, and environment variables to set in addition to this process's."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def launch(serving: Serving, model: Path, port: int) -> Launch:
    """The command line of an engine that loads the folder `model` and listens on `port`.

    It contains no secret: the engine's process reads the key from `serving.api_key_file`.

    Raises:
        Usage: when the engine's environment is not installed.
    """
    if serving.engine == "transformers":
        return _transformers(serving, model, port)
    python, module = program(EXTRA[serving.engine], "python"), _MODULE[serving.engine]
    if serving.api_key_file is None:
        start = [str(python), "-m", module]
    else:
        start = [str(python), "-P", keyed.__file__, str(serving.api_key_file.absolute()), module]
    variables = _CLOSED | _QUIET | _modules(model) | serving.environment
    return Launch((*start, *arguments(serving, model, port)), variables)


def served_name(serving: Serving, model: Path) -> str:
    """The model name for clients: the profile's, or the folder's name."""
    return serving.served_model_name or model.resolve().name


def arguments(serving: Serving, model: Path, port: int) -> list[str]:
    """The arguments of SGLang or vLLM: model and name first, as on the card, then the profile's flags."""
    name = served_name(serving, model)
    first: dict[str, Flag] = {_MODEL[serving.engine]: str(model.absolute()), "served-model-name": name}
    return options(first | serving.flags | {"host": serving.host, "port": port})


def _transformers(serving: Serving, model: Path, port: int) -> Launch:
    first = ("-m", "proofcard.serve.transformers_server")
    given = (f"--force-model={model.absolute()}", f"--served-model-name={served_name(serving, model)}")
    rest = options(serving.flags | {"host": serving.host, "port": port})
    variables = _CLOSED | _modules(model) | {"CUDA_VISIBLE_DEVICES": ""} | serving.environment
    return Launch((sys.executable, *first, *given, *rest), variables)


def _modules(model: Path) -> dict[str, str]:
    """Make transformers copy a model's code to a new, empty folder."""
    return {"HF_MODULES_CACHE": str(model.absolute().parent / "modules")}


def options(flags: dict[str, Flag]) -> list[str]:
    """`--name value` for each flag in order; only `--name` if it is true, nothing if it is false or null."""
    arguments: list[str] = []
    for name, value in flags.items():
        if value is True:
            arguments.append(f"--{name}")
        elif value is not None and value is not False:
            arguments += [f"--{name}", str(value)]
    return arguments
