"""Model cards you can prove: reproducible, verifiable NVFP4 checkpoints."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proofcard.verify.api import verify as verify

__all__ = ["__version__", "verify"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("proofcard")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
