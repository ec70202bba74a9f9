"""The command line's words as Hydra's grammar reads them, and our own in a form that can be pasted.

A path or a text may hold whatever a file's name may: blanks, `=`, quotes, letters of any alphabet. Some of
these mean something else in Hydra's grammar, so values of keys whose field holds a path or a text are quoted.
"""

import re
import shlex
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

_PLAIN = re.compile(r"[A-Za-z0-9_./:@+%-]*[A-Za-z0-9_/%-]")
"""Texts that Hydra and shells take as they are."""


def spelled(schema: type[BaseModel], words: list[str], sweeps: bool = False) -> list[str]:
    """Overrides as Hydra's grammar has them: paths and texts quoted, one value of a list made a list.

    Where the command `sweeps` over several values (-m), a value with a comma is left as it is.
    """
    return [_spelled(schema, word, sweeps) for word in words]


def override(key: str, value: object) -> str:
    """`key=value` to be pasted into a shell, for any path or text."""
    text = str(value)
    return f"{key}={text}" if _PLAIN.fullmatch(text) else shlex.quote(f"{key}={_quoted(text)}")


def command(name: str, **values: object) -> str:
    """`proofcard NAME key=value ...` to be pasted into a shell."""
    return " ".join(["proofcard", name, *(override(key, value) for key, value in values.items())])


def unquoted(value: str) -> str:
    """A value without Hydra's quotes around it, if there are any."""
    if not _is_quoted(value):
        return value
    half = re.compile(rf"(\\+)(?={value[0]}|$)")  # only in front of a quote and at the end do they count
    return half.sub(lambda found: found[1][: len(found[1]) // 2], value[1:-1])


def _spelled(schema: type[BaseModel], word: str, sweeps: bool) -> str:
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or value in ("", "null") or "${" in value or _is_quoted(value) or (sweeps and "," in value):
        return word
    kind = _annotation(schema, name.split("."))
    if _is_text(kind):
        if value.startswith("~/"):  # shells expand it at the beginning of a word alone
            value = str(Path(value).expanduser())
        return f"{key}={value if _PLAIN.fullmatch(value) and _stays_text(value) else _quoted(value)}"
    return f"{key}=[{value}]" if _is_list(kind) and value[0] not in "[{" else word


def _quoted(text: str) -> str:
    """Between double quotes, as Hydra reads them: backslashes count only in front of a quote."""
    escaped = re.sub(r'(\\*)"', lambda found: found[1] * 2 + r"\"", text)
    escaped = re.sub(r"(\\+)$", lambda found: found[1] * 2, escaped)
    return f'"{escaped}"'


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def _stays_text(value: str) -> bool:
    """Whether Hydra does not take it for a number or a truth value."""
    return re.fullmatch(r"[+-]?[\d_.]+(e[+-]?\d+)?|[+-]?(inf|nan)|true|false|null", value, re.I) is None


def _annotation(kind: Any, steps: list[str]) -> Any:
    """The type of the field at the end of the steps; None where there is no such field."""
    kinds = [each for each in _kinds(kind) if each is not NoneType]
    if not steps:
        return kind
    for each in kinds:
        if isinstance(each, type) and issubclass(each, BaseModel) and steps[0] in each.model_fields:
            field = each.model_fields[steps[0]]
            return _annotation(field.annotation, steps[1:])
        if get_origin(each) is dict:
            return _annotation(get_args(each)[1], steps[1:])
    return None


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a type, without what is only annotated."""
    if get_origin(kind) is Annotated:
        return _kinds(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(each for part in get_args(kind) for each in _kinds(part))
    return (kind,)


def _is_text(kind: Any) -> bool:
    kinds = {each for each in _kinds(kind) if each is not NoneType}
    return bool(kinds & {Path, str}) and all(isinstance(each, type) and each is not bool for each in kinds)


def _is_list(kind: Any) -> bool:
    return any(get_origin(each) in (tuple, list) for each in _kinds(kind))
