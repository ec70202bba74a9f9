"""Parses a server's reply: strict JSON, and streams of server-sent events."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from proofcard.screen import quoted
from proofcard.serve.wire import NoAnswer

_DEEPEST = 64  # levels of nesting
_LONGEST = 1 << 20  # bytes of a line, and of an event
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """A server-sent event: its type and its data."""

    kind: str
    data: str


def json_value(data: bytes | str) -> Any:
    """The JSON value in `data`.

    Raises:
        NoAnswer: when it is not UTF-8 or not JSON, has a duplicate key, a number that is not finite or
            has thousands of digits, half a surrogate pair, or is nested deeper than 64 levels.
    """
    try:
        text = data if isinstance(data, str) else data.removeprefix(_BOM).decode()
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)
        _check(value)
    except UnicodeDecodeError as error:
        raise NoAnswer(f"its reply is not UTF-8 ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise NoAnswer(f"its JSON is nested deeper than {_DEEPEST} levels") from None
    except ValueError as error:
        raise NoAnswer(f"its reply is not JSON: {quoted(str(error), 120)}") from None
    return value


def json_object(data: bytes | str) -> dict[str, Any]:
    """As `json_value`, for an object. Raises NoAnswer for any other value."""
    value = json_value(data)
    if not isinstance(value, dict):
        raise NoAnswer(f"its reply is {kind_of(value)}, not a JSON object")
    return value


def kind_of(value: Any) -> str:
    """The type of a JSON value, for a message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return kinds[type(value)]


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, however it is cut into pieces, as the standard (WHATWG HTML, 9.2) reads them.

    An event that is not terminated by an empty line is dropped.

    Raises:
        NoAnswer: for a line or an event of more than a mebibyte, or invalid UTF-8.
    """
    kind, size = "", 0
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield Event(kind, "\n".join(data))
            kind, data, size = "", [], 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            size += len(value) + 1
            if size > _LONGEST:
                raise NoAnswer(f"an event of its stream is longer than {_LONGEST >> 20} MiB")
            data.append(value)
        elif name == "event":
            kind = value


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines ended by `\\n`, `\\r` or both, without their ends; an unterminated line is dropped."""
    rest, number, after_return = bytearray(), 0, False
    for piece in pieces:
        if after_return and piece.startswith(b"\n"):
            piece = piece[1:]
            after_return = False
        if not piece:
            continue
        after_return = piece.endswith(b"\r")
        first, *more = _LINE_END.split(piece)
        rest += first
        for part in more:
            yield _text(bytes(rest), first=number == 0)
            rest, number = bytearray(part), number + 1
        if len(rest) > _LONGEST:
            raise NoAnswer(f"a line of its stream is longer than {_LONGEST >> 20} MiB")


def _text(line: bytes, first: bool) -> str:
    try:
        return (line.removeprefix(_BOM) if first else line).decode()
    except UnicodeDecodeError as error:
        raise NoAnswer(f"its stream is not UTF-8 ({error.reason})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {quoted(twice, 40)!r} occurs twice in one object")
    return record


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{quoted(digits, 40)} is not a finite number")
    return value


def _check(value: Any) -> None:
    """Raise RecursionError for nesting that is too deep, ValueError for a string that is not Unicode."""
    level = [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.keys()
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, str) and not each.isascii():
                _unicode(each)
        if not below:
            return
        level = below
    raise RecursionError


def _unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string contains half a surrogate pair") from None
