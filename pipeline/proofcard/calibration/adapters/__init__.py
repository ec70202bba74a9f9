"""Adapters turn a dataset's row into a conversation: one module per column schema, named as in recipes.

A module has one function, `read(row)`, which returns a `Conversation` or raises `UnreadableRow`. It is part
of the keys of the recipes that use it and of no others, so a new one changes no key. Shared functions are in
`rows`, which is part of the key of every sample set.
"""

from collections.abc import Callable
from importlib import import_module

from proofcard.calibration.rows import Conversation, Row


def adapter(name: str) -> Callable[[Row], Conversation]:
    """The `read` function of the adapter with that name."""
    read: Callable[[Row], Conversation] = import_module(f"{__name__}.{name}").read
    return read
