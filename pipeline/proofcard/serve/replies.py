"""Parses a server's reply: strict JSON, and streams of server-sent events."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from proofcard import json_files
from proofcard.screen import quoted
from proofcard.serve.wire import NoAnswer

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
        NoAnswer: when it is not strict JSON as in `json_files.parse`, or has a duplicate key.
    """
    content = data.encode(errors="surrogatepass") if isinstance(data, str) else data.removeprefix(_BOM)
    try:
        return json_files.parse(content, "its reply", unique=True)
    except json_files.JsonError as error:
        raise NoAnswer(quoted(str(error))) from None


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
