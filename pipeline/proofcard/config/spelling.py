"""The command line's words as Hydra's grammar reads them.

A path or a text may hold whatever a file's name may: blanks, `=`, quotes, letters of any alphabet. Some of
these mean something else in Hydra's grammar, so values of keys whose field holds a path or a text are quoted.
"""

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from pydantic import BaseModel

from proofcard.pasted import is_plain, is_quoted, quoted


def spelled(schema: type[BaseModel], words: list[str], sweeps: bool = False) -> list[str]:
    """Overrides as Hydra's grammar has them: paths and texts quoted, one value of a list made a list.

    Where the command `sweeps` over several values (-m), a value with a comma is left as it is.
    """
    return [_spelled(schema, word, sweeps) for word in words]


def unescaped(words: list[str]) -> list[str]:
    """The words of a sweep's job as somebody would type them: Hydra escapes texts in them."""
    parsed = OverridesParser.create().parse_overrides(words)
    values = [override.value() for override in parsed]
    return [
        f"{word.partition('=')[0]}={value}" if isinstance(value, str) else word
        for word, value in zip(words, values, strict=True)
    ]


def _spelled(schema: type[BaseModel], word: str, sweeps: bool) -> str:
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or value in ("", "null") or "${" in value or is_quoted(value) or (sweeps and "," in value):
        return word
    kind = _annotation(schema, name.split("."))
    if _is_text(kind):
        if value.startswith("~/"):  # shells expand it at the beginning of a word alone
            value = str(Path(value).expanduser())
        return f"{key}={value if is_plain(value) and _stays_text(value) else quoted(value)}"
    return f"{key}=[{value}]" if _is_list(kind) and value[0] not in "[{" else word


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
