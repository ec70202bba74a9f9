"""What a dataset may name as its files: those of its own folder or commit, and nothing on any network.

`datasets` obeys whatever `data_files` and `data_dir` in a README.md say: paths above the folder, absolute
ones, and addresses. They are looked at before it sees them, and what it made of them is looked at afterwards.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from proofcard.errors import Stop, one_line
from proofcard.files import located, opened, plain, read_bytes, tree

CARDS = ("README.md", ".huggingface.yaml")  # of a folder; their `configs` name the files of each split
READERS = ("arrow", "csv", "json", "parquet", "text")
_LARGEST_CARD = 4 << 20  # bytes
_MOST_NODES = 200_000  # of a card's YAML, aliases counted as often as they are used
_LONGEST_LINE = 64 << 20  # bytes; `datasets` holds a line of JSON in memory


def check_folder(folder: Path) -> None:
    """Refuse a local dataset that names, or links to, anything outside its folder.

    Raises:
        Stop: naming the card's entry, or the link, pipe or device.
    """
    tree(folder)
    for name in CARDS:
        try:
            content = read_bytes(folder / name, folder, _LARGEST_CARD)
        except FileNotFoundError:
            continue
        check_card(content, folder / name)
    if (folder / f"{folder.absolute().name}.py").exists():
        raise Stop(f"{plain(folder)} holds a script of its own name: datasets' code is never run, remove it")


def check_card(content: bytes, path: Path) -> None:
    """Refuse a card whose `configs` name anything that is not below its folder.

    Raises:
        Stop: naming the entry, or when the card cannot be read.
    """
    import yaml
    from huggingface_hub import DatasetCard

    where = plain(path)
    try:
        text = content.decode()
        said = yaml.safe_load(text) if path.suffix == ".yaml" else DatasetCard(text).data.to_dict()
        configs = said.get("configs") if isinstance(said, dict) else None
        _nodes(said, {})
        patterns = list(_patterns(configs))
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise Stop(f"{where} cannot be read: {one_line(error)[:200]}") from None
    for pattern in patterns:
        parsed = urlparse(pattern)
        if parsed.scheme or pattern.startswith(("/", "\\")) or "::" in pattern or ".." in Path(pattern).parts:
            raise Stop(
                f"{where} names {plain(pattern)!r} as data: only files below its own folder are read, "
                "so correct its `configs`"
            )


def _patterns(configs: Any) -> Iterator[str]:
    """Every text in the `data_files` and `data_dir` of a card's `configs`."""
    for config in configs if isinstance(configs, list) else ():
        for key in ("data_files", "data_dir"):
            yield from _texts(config.get(key))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
    elif value is not None:
        yield str(value)


def _nodes(value: Any, known: dict[int, int]) -> int:
    """How many values there are with every alias written out. Raises ValueError for too many."""
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_NODES  # an alias of itself
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_nodes(part, known) for part in parts)
    if known[id(value)] >= _MOST_NODES:
        raise ValueError("its YAML has too many values")
    return known[id(value)]


def check_files(files: list[str], root: Path | None) -> None:
    """Refuse data files that are not regular files below `root`, the folder; None: the user named the file.

    Raises:
        Stop: naming the first.
    """
    for file in files:
        if "://" in file or "::" in file:
            raise Stop(f"{plain(file)} is an address: only files below the dataset's folder are read")
        path = located(Path(file), root)
        if {".json", ".jsonl", ".ndjson"} & set(Path(file).suffixes) and path.stat().st_size > _LONGEST_LINE:
            with opened(Path(file), root) as content:
                if b"\n" not in content.read(_LONGEST_LINE):
                    raise Stop(f"{plain(file)} begins with a line of more than {_LONGEST_LINE >> 20} MiB")
