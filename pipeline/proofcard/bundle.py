"""Locates the files that belong to the program: `conf/`, `patches/`, `demo/`, `uv.lock`."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_WHEEL = _PACKAGE / "_bundle"
_ROOT = _WHEEL if _WHEEL.is_dir() else _PACKAGE.parents[1]


def bundled(name: str) -> Path:
    """Path of a bundled file or folder: inside the package in a wheel, at the root of a checkout."""
    return _ROOT / name
