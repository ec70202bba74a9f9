"""Runs a model's code in the sandboxed process. Uses the standard library only.

Its input and output are lines of JSON. The first is `{"code", "function"}`, its answer `{"defined": true}`.
Then each `{"given": [...]}` is a call; its answer is `{"value": ...}`, `{"other": "tuple"}` for a value that
JSON cannot hold, or `{"raised": "..."}`. An argument is `{"plain": ...}`, or `{"served": length}`: a list
whose elements are requested one by one, `{"read": place}`, and come back as `{"element": ...}`.

What a call should return is not known in this process.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, SupportsIndex

_PLAIN = (bool, int, float, str, list, dict, type(None))


def main() -> None:
    """Run the code's definitions, then answer calls until there are no more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # keep what the code prints apart from answers

    def ask(message: dict[str, Any]) -> dict[str, Any] | None:
        os.write(answers, json.dumps(message).encode() + b"\n")
        line = sys.stdin.buffer.readline()
        return json.loads(line) if line else None

    order = json.loads(sys.stdin.buffer.readline())
    space: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(order["code"], "answer", "exec"), space)
    except BaseException as error:  # of code that may do anything, SystemExit included
        ask({"raised": _named(error)})
        return
    if order["function"] not in space:
        ask({"raised": f"it does not define {order['function']}"})
        return
    function = space[order["function"]]
    call = ask({"defined": True})
    while call is not None:
        try:
            answer = _described(function(*(_argument(each, ask) for each in call["given"])))
        except BaseException as error:
            answer = {"raised": _named(error)}
        call = ask(answer)


class Served(list[Any]):
    """A list of a known length whose elements are elsewhere."""

    def __init__(self, length: int, ask: Any) -> None:
        super().__init__()
        self._length, self._ask = length, ask

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return self._length > 0

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(self._length))]
        index = place.__index__()
        index += self._length if index < 0 else 0
        if not 0 <= index < self._length:
            raise IndexError("list index out of range")
        return self._ask({"read": index})["element"]

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(self._length))

    def __reversed__(self) -> Iterator[Any]:
        return (self[place] for place in reversed(range(self._length)))

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize) -> int:
        """As of a list."""
        for place in range(*slice(start, stop).indices(self._length)):
            if self[place] == value:
                return place
        raise ValueError(f"{value!r} is not in list")


def _argument(given: dict[str, Any], ask: Any) -> Any:
    return Served(given["served"], ask) if "served" in given else given["plain"]


def _described(value: Any) -> dict[str, Any]:
    other = _other(value)
    return {"value": value} if other is None else {"other": other}


def _other(value: Any) -> str | None:
    """The first type inside a value that JSON does not have."""
    if not isinstance(value, _PLAIN):
        return type(value).__name__
    inside = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return next((other for each in inside if (other := _other(each)) is not None), None)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:120]}"


if __name__ == "__main__":
    main()
