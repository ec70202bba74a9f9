"""Optional parts of the installation: what a command needs beyond what `verify` needs."""

from importlib.util import find_spec

from proofcard.errors import Usage

_MODULES = {
    "quantize": ("torch", "transformers", "datasets", "modelopt", "accelerate"),
    "serve-cpu": ("transformers", "torch", "fastapi", "uvicorn", "openai"),
    "tracking": ("mlflow", "matplotlib"),
    "servers": ("httpcore", "regex", "landlockpy", "pyseccomp"),
}
"""Modules by what needs them: an extra of pyproject.toml, or `servers`, which several extras bring."""

_INSTALL = {"serve-cpu": "quantize,serve-cpu", "servers": "serve-cpu"}

NEEDS = {
    "benchmark": "servers",
    "evaluate": "quantize",
    "fetch": "quantize",
    "plan": "quantize",
    "quantize": "quantize",
    "serve": "servers",
}
"""What a command needs beyond what `verify` does, whatever its configuration."""


def require(what: str, need: str, otherwise: str = "") -> None:
    """Stop before any work when something that `what` needs is not installed. Imports nothing.

    Raises:
        Usage: naming the extra in pip's and in uv's words; `otherwise` says how to do without it.
    """
    missing = [module for module in _MODULES[need] if find_spec(module) is None]
    if missing:
        extras = _INSTALL.get(need, need)
        uv = " ".join(f"--extra {extra}" for extra in extras.split(","))
        raise Usage(
            f"{what} needs {missing[0]}, which is not installed: pip install 'proofcard[{extras}]', "
            f"or uv sync {uv} in a checkout{otherwise}"
        )
