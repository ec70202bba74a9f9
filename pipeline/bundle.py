"""Where the files that belong to the program lie: `conf/`, `patches/`, `demo/`, `uv.lock`."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def bundled(name: str) -> Path:
    """Path of a bundled file or folder: beside the package in a checkout, inside it in a wheel."""
    checkout = _PACKAGE.parent / name
    return checkout if checkout.exists() else _PACKAGE / "_bundle" / name
