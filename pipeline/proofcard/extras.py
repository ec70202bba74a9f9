"""Optional dependencies: what a command needs in addition to those of `verify`."""

from importlib.util import find_spec

from proofcard.errors import Usage

_MODULES = {
    "quantize": ("torch", "transformers", "datasets", "modelopt", "accelerate"),
    "agentic": ("inspect_ai",),
    "serve-cpu": ("transformers", "torch", "fastapi", "uvicorn", "openai"),
    "tracking": ("mlflow", "matplotlib"),
    "sign": ("model_signing", "cyclonedx", "OpenSSL"),
    "servers": ("httpcore", "regex", "landlockpy", "pyseccomp", "scipy"),
}
"""Modules by extra of pyproject.toml, or by `servers`, which several extras include."""

_INSTALL = {
    "agentic": "quantize,serve-cpu,agentic", "serve-cpu": "quantize,serve-cpu", "servers": "serve-cpu"
}  # fmt: skip

NEEDS = {
    "agentic": "servers",
    "benchmark": "servers",
    "evaluate": "quantize",
    "fetch": "quantize",
    "plan": "quantize",
    "quantize": "quantize",
    "repeat": "servers",
    "reproduce": "quantize",
    "run": "quantize",
    "serve": "servers",
    "sign": "sign",
    "tasks": "servers",
}
"""What a command always needs in addition to the dependencies of `verify`."""


def installed(need: str) -> bool:
    """Whether all that it needs is there. Imports nothing."""
    return all(find_spec(module) is not None for module in _MODULES[need])


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
