"""Fields of documents that earlier versions called by another name."""

from collections.abc import Iterator
from typing import Any

_RENAMED = {
    "proofcard/benchmark": ((("server",), "told", "label"),),
    "proofcard/serving": ((("settings", "*"), "asked", "requested"),),
    "proofcard/tasks": ((("reference",), "told", "label"), (("candidate",), "told", "label")),
    "proofcard/agentic": ((("server",), "told", "label"),),
    "proofcard/repeat": ((("server",), "told", "label"), (("phases", "*"), "asked", "requests")),
}
"""By schema without its version: where the field is (`*`: every member), its former name, its name."""


def renamed(values: Any) -> Any:
    """A document's JSON values, fields renamed in place to what they are called now."""
    schema = values.get("schema") if isinstance(values, dict) else None
    kind = schema.rpartition("/")[0] if isinstance(schema, str) else ""
    for path, former, name in _RENAMED.get(kind, ()):
        for holder in _at(values, path):
            if isinstance(holder, dict) and former in holder and name not in holder:
                holder[name] = holder.pop(former)
    return values


def _at(values: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield values
    elif path[0] == "*":
        members = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
        for member in members:
            yield from _at(member, path[1:])
    elif isinstance(values, dict) and path[0] in values:
        yield from _at(values[path[0]], path[1:])
