"""Reads untrusted JSON within limits, or refuses it in a sentence."""

import json
import re
from functools import partial
from math import isinf
from pathlib import Path
from typing import Any

from proofcard.errors import Stop
from proofcard.files import plain, read_bytes

SETTINGS = 16 << 20  # bytes of a config.json and the like
TABLE = 128 << 20  # bytes of files with an entry per tensor; 276,000 tensors of Kimi K2 take 97 MB
_PARTS = 5_000_000  # values, keys and brackets of one file: each may take 64 bytes of memory, some 150
_PIECE = 1 << 20  # bytes in which such signs are counted
_DEPTH = 64
_DIGITS = 64  # of an integer; tokenizers write 10**30 for `no limit`
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonError(Stop):
    """A file that is not acceptable JSON; the message names it."""


def read(
    path: Path, root: Path | None, limit: int = SETTINGS, infinite: bool = False, shown: str | None = None
) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes.

    `infinite` accepts `Infinity` as a number, as in some models' config.json. `shown` is what messages
    call the file, by default its path.

    Raises:
        FileNotFoundError: when the file does not exist.
        Refused, Unreadable: as `files.opened`, and Refused for a larger file.
        JsonError: for anything but one unambiguous object in UTF-8.
    """
    name = shown or plain(path)
    value = parse(read_bytes(path, root, limit), name, infinite)
    if not isinstance(value, dict):
        raise JsonError(f"{name} is not a JSON object")
    return value


def _parts(content: bytes) -> int:
    """How many signs it has of those that begin a value, some of them in strings."""
    pieces = (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))
    return sum(len(piece) - len(piece.translate(None, b",:[{")) for piece in pieces)


def parse(content: bytes, name: str, infinite: bool = False, most: int = _PARTS, unique: bool = False) -> Any:
    """A JSON value of bounded depth and at most `most` parts; `name` is its name in messages.

    `unique` refuses every duplicate key, even with equal values.

    Raises:
        JsonError: when it is not UTF-8 or not JSON, exceeds these limits, or has a number that no program
            agrees on (NaN, hundreds of digits), half a surrogate pair, or a duplicate key with two values.
    """
    if content.startswith(b"\xef\xbb\xbf"):
        raise JsonError(f"{name} starts with a byte order mark: save it as UTF-8 without one")
    parts = _parts(content)
    if parts > most or (
        not content.isascii() and 4 * len(content) > 2 * TABLE
    ):  # Python uses up to 4 bytes per character
        raise JsonError(f"{name} is too large to be read: {len(content):,} bytes, {parts:,} values")
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=partial(_object, unique=unique),
            parse_int=_integer,
            parse_float=_finite if not infinite else float,
            parse_constant=_infinite if infinite else _constant,
        )
    except UnicodeDecodeError as error:
        raise JsonError(f"{name} is not JSON: it is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise JsonError(f"{name} is nested deeper than {_DEPTH} levels") from None
    except ValueError as error:
        raise JsonError(f"{name} is not JSON: {plain(error)}") from None
    if _deeper(value, _DEPTH):
        raise JsonError(f"{name} is nested deeper than {_DEPTH} levels")
    if _SURROGATE.search(content):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise JsonError(f"{name} is not JSON: it contains half of a surrogate pair") from None
    return value


def _object(pairs: list[tuple[str, Any]], unique: bool) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        for key, value in pairs:
            if record[key] != value or type(record[key]) is not type(value) or (unique and key in seen):
                raise ValueError(f"it has the key {plain(key, 80)!r} twice")
            seen.add(key)
    return record


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it contains a number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError(f"{plain(digits, 40)} is too large for a number")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _infinite(name: str) -> float:
    return float(name) if name != "NaN" else _constant(name)


def _deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested deeper than the limit; checked without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        inner = (part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole))
        level = [part for part in inner if isinstance(part, dict | list)]
    return bool(level)
