"""Profiles, and the environments of the engines: their sources, and a skip that says what to install."""

from functools import cache
from pathlib import Path

import pytest

from proofcard.bundle import bundled
from proofcard.config import ServeConfig, compose
from proofcard.config.serving import Flag, Serving
from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.serve.launch import EXTRA

PROFILES = sorted(path.stem for path in bundled("conf/serving").glob("*.yaml"))


def profile(name: str, flags: dict[str, Flag] | None = None) -> Serving:
    """A profile as it is composed, with some flags of one's own."""
    serving = composed(name)
    return serving.model_copy(update={"flags": serving.flags | (flags or {})})


@cache
def composed(name: str) -> Serving:
    return compose(ServeConfig, "serve", ["checkpoint=/x", f"serving={name}"]).serving


def packages(engine: str) -> Path:
    """The site-packages of an engine's environment, or a skip."""
    try:
        python = program(EXTRA[engine], "python")
    except Usage as missing:
        pytest.skip(f"NOT CHECKED against {engine}: {missing}")
    (found,) = python.parent.parent.glob("lib/python3*/site-packages")
    return found


def source(engine: str, file: str) -> str:
    return (packages(engine) / file).read_text(encoding="utf-8")
