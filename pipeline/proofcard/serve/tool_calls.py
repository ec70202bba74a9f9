"""Calls of tools in an answer, put together from the pieces of a stream or taken from one object."""

import json
from dataclasses import dataclass, field
from typing import Any

from proofcard.serve.replies import kind_of
from proofcard.serve.wire import NoAnswer

_MOST = 128  # calls in one answer
_LONGEST_NAME = 256  # characters


@dataclass(frozen=True)
class ToolCall:
    """One call: the server's `id` of it, the tool's name, and the arguments as the model wrote them.

    Of a name nothing is known but its length; `arguments` need not be JSON.
    """

    id: str
    name: str
    arguments: str


@dataclass
class _Pieces:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Calls:
    """Calls that are still coming."""

    def __init__(self) -> None:
        self._found: dict[int, _Pieces] = {}

    def add(self, given: Any) -> int:
        """Take the `tool_calls` of a message or of one event; returns how many characters they were.

        Raises:
            NoAnswer: for what is not a list of calls, or too many of them.
        """
        if not isinstance(given, list):
            raise NoAnswer(f"tool_calls of its answer is {kind_of(given)}, not a list")
        return sum(self._add(place, call) for place, call in enumerate(given))

    def _add(self, place: int, call: Any) -> int:
        if not isinstance(call, dict):
            raise NoAnswer(f"a tool call of its answer is {kind_of(call)}, not an object")
        index = call.get("index", place)
        if type(index) is not int or not 0 <= index < _MOST:
            raise NoAnswer(f"its answer calls more than {_MOST} tools, or counts them oddly")
        pieces = self._found.setdefault(index, _Pieces())
        function = call.get("function") or {}
        if not isinstance(function, dict):
            raise NoAnswer(f"the function of a tool call is {kind_of(function)}, not an object")
        arguments = function.get("arguments") or ""
        if isinstance(arguments, dict):  # some servers give the object itself
            arguments = json.dumps(arguments)
        name, known = function.get("name") or "", call.get("id") or ""
        if not all(isinstance(each, str) for each in (arguments, name, known)):
            raise NoAnswer("the name, id and arguments of a tool call should be strings")
        if pieces.name and name == pieces.name:  # repeated with every piece
            name = ""
        pieces.name += name
        pieces.id = pieces.id or known
        if len(pieces.name) > _LONGEST_NAME or len(pieces.id) > _LONGEST_NAME:
            raise NoAnswer(f"the name or id of a tool call is longer than {_LONGEST_NAME} characters")
        pieces.arguments.append(arguments)
        return len(arguments) + len(name)

    def whole(self) -> tuple[ToolCall, ...]:
        """All of them, in the order of their numbers."""
        return tuple(
            ToolCall(each.id, each.name, "".join(each.arguments)) for _, each in sorted(self._found.items())
        )
