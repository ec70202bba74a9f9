"""Optional dependencies: what a command needs in addition to those of `verify`."""

from importlib.util import find_spec

from proofcard.errors import Usage

_MODULES = {
    "quantize": ("torch", "transformers", "datasets", "modelopt", "accelerate"),
    "serve-cpu": ("transformers", "torch", "fastapi", "uvicorn", "openai"),
    "tracking": ("mlflow", "matplotlib"),
    "servers": ("httpcore", "regex", "landlockpy", "pyseccomp"),
}
"""Modules by extra of pyproject.toml, or by `servers`, which several extras include."""

_INSTALL = {"serve-cpu": "quantize,serve-cpu", "servers": "serve-cpu"}

NEEDS = {
    "benchmark": "servers",
    "evaluate": "quantize",
    "fetch": "quantize",
    "plan": "quantize",
    "quantize": "quantize",
    "serve": "servers",
}
"""What a command always needs in addition to the dependencies of `verify`."""


def require(what: str, need: str, otherwise: str = "") -> None:
    """Stop before any work if a dependency of `what` is not installed. Imports nothing.

    Raises:
        Usage: naming the extra for pip and for uv; `otherwise` says how to do without it.
    """
    missing = [module for module in _MODULES[need] if find_spec(module) is None]
    if missing:
        extras = _INSTALL.get(need, need)
        uv = " ".join(f"--extra {extra}" for extra in extras.split(","))
        raise Usage(
            f"{what} needs {missing[0]}, which is not installed: pip install 'proofcard[{extras}]', "
            f"or uv sync {uv} in a checkout{otherwise}"
        )
