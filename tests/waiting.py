"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; a failure after 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
