"""What the JSON files of a checkpoint name: classes of Python files beside them, and nothing else."""

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
class Named:
    """A reference to a class: the JSON file, the key in it, and the Python file that would be run."""

    settings: str
    key: str
    module: str


def references(file: Path, content: bytes) -> Iterator[Named]:
    """What a JSON file names. One that is no JSON names nothing: loaders read it with the same parser.

    Raises:
        Usage: when it names code that cannot be pinned (of the hub, of another folder), a kernel of the hub,
            or something that is not the name of a class.
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
                f"{file}: {key} names code to generate text with, {_shown(item)}, which cannot be pinned: "
                "remove the key"
            )
        elif "_implementation" in name:
            _check_kernels(file, key, item)
        elif name in _CLASSES:
            _check_class(file, key, item)


def _pairs(value: Any, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Every key at any depth, dotted, and its value. Objects are lists of pairs: no key hides its double."""
    left = [(inside, value)]
    while left:
        path, item = left.pop()
        if _is_object(item):
            for key, below in item:
                dotted = f"{path[-200:]}.{key}" if path else key
                yield dotted, below
                left.append((dotted, below))
        elif isinstance(item, list):
            left += [(path, each) for each in item]


def _is_object(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, tuple) for each in value)


def _named(file: Path, key: str, value: Any) -> Iterator[Named]:
    """The references of a value: a text, a list of texts and nulls, or an object of those."""
    if value is None or value == []:
        return
    if _is_object(value):
        for name, each in value:
            yield from _named(file, f"{key}.{name}", each)
    elif isinstance(value, list):
        for each in value:
            yield from _named(file, key, each)
    elif isinstance(value, str) and (match := _REFERENCE.fullmatch(value)):
        yield Named(file.name, key, f"{match['module']}.py")
    else:
        raise Usage(
            f"{file}: {key} names {_shown(value)}: code may come only from a Python file beside it, as in "
            "modeling_x.Model, never from the hub or another folder; copy that file here and name it so, or "
            "remove the entry"
        )


def _check_kernels(file: Path, key: str, value: Any) -> None:
    for each in _texts(value):
        if re.search(r"[^A-Za-z0-9_|]", each):
            raise Usage(
                f"{file}: {key} names {_shown(each)}, a kernel that would be fetched from the hub and run: "
                "remove the key, or name an implementation of the library, such as sdpa"
            )


def _check_class(file: Path, key: str, value: Any) -> None:
    for each in _texts(value):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", each):
            raise Usage(f"{file}: {key} is {_shown(each)}, which is no name of a class: correct it")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, at any depth."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif _is_object(item):
            left += [each for _, each in item]
        elif isinstance(item, list):
            left += item


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
