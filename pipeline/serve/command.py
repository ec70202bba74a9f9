"""`serve`: start an engine, ask it what it must know, and keep it until Ctrl-C."""

from pipeline.config import compose
from pipeline.config.serving import ServeConfig


def run(overrides: list[str]) -> int:
    """Compose, start, ask, wait. Returns 0."""
    compose(ServeConfig, "serve", overrides)
    return 0
