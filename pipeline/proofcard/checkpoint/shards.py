"""Which of a folder's safetensors files are the model's weights.

The index decides where there is one, as for SGLang and vLLM: a `consolidated.safetensors` or a second
`model.safetensors` beside its shards does not count. Without one it is `model.safetensors`, or every file.
"""

from collections.abc import Collection
from pathlib import Path

from proofcard import json_files
from proofcard.errors import Stop
from proofcard.files import exists, listed, plain

INDEX = "model.safetensors.index.json"
_ONE = "model.safetensors"
_SUFFIX = ".safetensors"


class BadIndex(Stop):
    """An index that cannot be followed."""


class MissingShards(Stop):
    """An index that names files which are not there."""


def read_index(folder: Path) -> dict[str, str] | None:
    """The index's file of each tensor, None where there is no index.

    Raises:
        BadIndex: when it is no index, or names anything but files beside it.
        Refused, Unreadable, JsonError: as `json_files.read`.
    """
    try:
        content = json_files.read(folder / INDEX, folder, json_files.TABLE, shown=INDEX)
    except FileNotFoundError:
        return None
    files = content.get("weight_map")
    if not isinstance(files, dict) or not files:
        raise BadIndex(f"{INDEX} is no index: it has no weight_map that names files")
    for name, file in files.items():
        if not isinstance(file, str):
            raise BadIndex(f"{INDEX} is no index: it gives {plain(name)!r} no file's name")
    for file in sorted(set(files.values())):
        if "/" in file or not file.endswith(_SUFFIX) or file[0] == "." or not file.isprintable():
            raise BadIndex(f"{INDEX} names {plain(file)!r}: only {_SUFFIX} files beside it are read")
    return files


def counted(names: Collection[str], index: dict[str, str] | None) -> list[str]:
    """Of the names of a folder's files, those that hold the model's weights, sorted.

    Raises:
        MissingShards: when the index names others.
    """
    here = sorted(name for name in names if name.endswith(_SUFFIX))
    if index is None:
        return [_ONE] if _ONE in here else here
    wanted = sorted(set(index.values()))
    if missing := [name for name in wanted if name not in set(here)]:
        raise MissingShards(
            f"{INDEX} names {len(wanted)} files, {len(missing)} of them not here, the first {missing[0]}: "
            "the download or copy is not complete"
        )
    return wanted


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the model's weights, none where there is no safetensors file.

    Raises:
        MissingShards: when the index names files that are not there.
        BadIndex, Refused, Unreadable, JsonError: for an index that cannot be followed.
    """
    names = [path.name for path in listed(folder)]
    return [folder / name for name in counted(names, read_index(folder))]


def read_otherwise(folder: Path) -> str | None:
    """The name of a file that transformers loads instead of the shards that the index names, if there is one.

    Raises as `weight_files`.
    """
    index = read_index(folder)
    other = index is not None and _ONE not in index.values() and exists(folder / _ONE)
    return _ONE if other else None


def has_weights(folder: Path) -> bool:
    """Whether there is a safetensors file or an index. Raises as `weight_files`."""
    return exists(folder / INDEX) or any(path.suffix == _SUFFIX for path in listed(folder))
