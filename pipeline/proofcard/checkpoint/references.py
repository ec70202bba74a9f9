"""Code references in the JSON files of a checkpoint: only to classes in Python files next to them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard.errors import Usage

_REFERENCE = re.compile(r"(?P<module>[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*)\.[A-Za-z_][A-Za-z0-9_]*")
_CLASSES = (
    "architectures", "tokenizer_class", "processor_class", "image_processor_class", "feature_extractor_class",
    "image_processor_type", "feature_extractor_type", "video_processor_type", "audio_tokenizer_class",
)  # fmt: skip


@dataclass(frozen=True)
class CodeReference:
    """A reference to a class: the JSON file, the key in it, and the Python file that would be run."""

    settings: str
    key: str
    module: str


def references(file: Path, content: bytes) -> Iterator[CodeReference]:
    """The code that a JSON file refers to; nothing if it is not valid JSON, as for any loader.

    Raises:
        Usage: when it refers to code that cannot be pinned (on the hub, in another folder), to a kernel on
            the hub, or to something that is not a class name.
    """
    try:
        value = json.loads(content, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return
    for key, item in _pairs(value):
        name = key.rpartition(".")[2]
        if name == "auto_map":
            yield from _named(file, key, item)
        elif name == "custom_pipelines":
            for each, implementation in _pairs(item):
                if each.endswith("impl"):
                    yield from _named(file, f"{key}.{each}", implementation)
        elif name == "custom_generate" and item:
            raise Usage(
                f"{file}: {key} refers to custom generation code, {_shown(item)}, which cannot be pinned: "
                "remove the key"
            )
        elif "_implementation" in name:
            _check_kernels(file, key, item)
        elif name in _CLASSES:
            _check_class(file, key, item)


def _pairs(value: Any, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Every key at any depth, dotted, with its value. Objects are lists of pairs, to keep duplicates."""
    pending = [(inside, value)]
    while pending:
        path, item = pending.pop()
        if _is_object(item):
            for key, below in item:
                dotted = f"{path[-200:]}.{key}" if path else key
                yield dotted, below
                pending.append((dotted, below))
        elif isinstance(item, list):
            pending += [(path, each) for each in item]


def _is_object(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, tuple) for each in value)


def _named(file: Path, key: str, value: Any) -> Iterator[CodeReference]:
    """The references in a value: a string, a list of strings and nulls, or an object of those."""
    if value is None or value == []:
        return
    if _is_object(value):
        for name, each in value:
            yield from _named(file, f"{key}.{name}", each)
    elif isinstance(value, list):
        for each in value:
            yield from _named(file, key, each)
    elif isinstance(value, str) and (match := _REFERENCE.fullmatch(value)):
        yield CodeReference(file.name, key, f"{match['module']}.py")
    else:
        raise Usage(
            f"{file}: {key} refers to {_shown(value)}, but code may only come from a Python file in the same "
            "folder, as in modeling_x.Model, never from the hub or another folder: copy the file here and "
            "change the entry, or remove it"
        )


def _check_kernels(file: Path, key: str, value: Any) -> None:
    for each in _texts(value):
        if re.search(r"[^A-Za-z0-9_|]", each):
            raise Usage(
                f"{file}: {key} is {_shown(each)}, a kernel that would be downloaded from the hub and run: "
                "remove the key, or use a built-in implementation such as sdpa"
            )


def _check_class(file: Path, key: str, value: Any) -> None:
    for each in _texts(value):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", each):
            raise Usage(f"{file}: {key} is {_shown(each)}, which is not a class name: correct it")


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value, at any depth."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif _is_object(item):
            pending += [each for _, each in item]
        elif isinstance(item, list):
            pending += item


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
