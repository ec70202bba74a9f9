"""Documents without this machine's folders: what is published must not say where or by whom it was made."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from proofcard.documents.base import Document

Kind = TypeVar("Kind", bound=Document)


def document(made: Kind, names: Mapping[Path, str] | None = None) -> Kind:
    """A document with local folders replaced in every string: the working folder by `.`, the home by `~`.

    `names` adds folders and files, each with what replaces it; a longer path goes before a shorter one.
    """
    values = made.values()
    replaced = _replaced(
        values, _places() | {str(path.absolute()): name for path, name in (names or {}).items()}
    )
    return made if replaced == values else type(made).model_validate(replaced)


@cache
def pattern(path: str) -> re.Pattern[str]:
    """Matches a path in a text, also as the beginning of a longer path, but not within another name."""
    return re.compile(rf"(?<![\w.~-]){re.escape(path)}(?![\w-]|\.\w)")


def _places() -> dict[str, str]:
    """The working folder and the home. One at the root of the filesystem says nothing, and is left out."""
    places = {str(Path.home()): "~", str(Path.cwd()): "."}
    return {path: name for path, name in places.items() if len(Path(path).parts) > 1}


def _replaced(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, places) for each in value]
    if not isinstance(value, str):
        return value
    for path in sorted(places, key=len, reverse=True):
        if path in value:
            value = pattern(path).sub(places[path].replace("\\", r"\\"), value)
    return value
