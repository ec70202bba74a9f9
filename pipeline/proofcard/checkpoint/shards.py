"""Which of a folder's safetensors files hold the model's weights.

If there is an index, it decides, as for SGLang and vLLM: a `consolidated.safetensors` or a second
`model.safetensors` beside its shards does not count. Otherwise it is `model.safetensors`, or every file.
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
    """An index that is not valid."""


class MissingShards(Stop):
    """An index that lists missing files."""


def read_index(folder: Path) -> dict[str, str] | None:
    """The file of each tensor according to the index, or None if there is no index.

    Raises:
        BadIndex: when it is not valid, or lists anything but files in the same folder.
        Refused, Unreadable, JsonError: as `json_files.read`.
    """
    try:
        content = json_files.read(folder / INDEX, folder, json_files.TABLE, shown=INDEX)
    except FileNotFoundError:
        return None
    files = content.get("weight_map")
    if not isinstance(files, dict) or not files:
        raise BadIndex(f"{INDEX} is not a valid index: it has no weight_map from tensors to files")
    for name, file in files.items():
        if not isinstance(file, str):
            raise BadIndex(f"{INDEX} is not a valid index: {plain(name)!r} has no file name")
    for file in sorted(set(files.values())):
        if "/" in file or not file.endswith(_SUFFIX) or file[0] == "." or not file.isprintable():
            raise BadIndex(f"{INDEX} lists {plain(file)!r}: only {_SUFFIX} files in its own folder are read")
    return files


def weight_file_names(names: Collection[str], index: dict[str, str] | None) -> list[str]:
    """The sorted names of the files that hold the model's weights, out of all file names in a folder.

    Raises:
        MissingShards: when files in the index are missing.
    """
    here = sorted(name for name in names if name.endswith(_SUFFIX))
    if index is None:
        return [_ONE] if _ONE in here else here
    wanted = sorted(set(index.values()))
    if missing := [name for name in wanted if name not in set(here)]:
        raise MissingShards(
            f"{INDEX} lists files that are missing ({len(missing)} of {len(wanted)}), starting with "
            f"{missing[0]}: the download or copy is incomplete"
        )
    return wanted


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the model's weights; empty if there is no safetensors file.

    Raises:
        MissingShards: when files in the index are missing.
        BadIndex, Refused, Unreadable, JsonError: for an index that is not valid.
    """
    names = [path.name for path in listed(folder)]
    return [folder / name for name in weight_file_names(names, read_index(folder))]


def loaded_instead(folder: Path) -> str | None:
    """The name of a file that transformers would load instead of the shards in the index, or None.

    Raises as `weight_files`.
    """
    index = read_index(folder)
    other = index is not None and _ONE not in index.values() and exists(folder / _ONE)
    return _ONE if other else None


def has_weights(folder: Path) -> bool:
    """Whether there is a safetensors file or an index. Raises as `weight_files`."""
    return exists(folder / INDEX) or any(path.suffix == _SUFFIX for path in listed(folder))
