"""From a dataset's row to a conversation: one module for each column schema, by the name that recipes use.

A module has one function, `read(row)`, which returns a `Conversation` or raises `OtherShape`. It is in the
keys of the recipes that use it and in no others, so a new one changes no key. What several share is in
`rows`, which is in the key of every sample set.
"""

from collections.abc import Callable
from importlib import import_module

from proofcard.calibration.rows import Conversation, Row


def adapter(name: str) -> Callable[[Row], Conversation]:
    """The `read` of the module of that name."""
    read: Callable[[Row], Conversation] = import_module(f"{__name__}.{name}").read
    return read
