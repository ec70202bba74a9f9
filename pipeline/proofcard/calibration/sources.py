"""Where rows come from: a dataset's files, in a local copy or on the hub at a pinned commit.

`datasets` itself decides which files make up a subset and its splits: by the `configs` in the dataset's
README.md, or by its rules for names. No code of a dataset is ever run.
"""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proofcard.calibration import allowed_files, dataset_files, private_cache
from proofcard.config.schema import Dataset
from proofcard.errors import Stop, is_full, one_line
from proofcard.files import located, plain
from proofcard.hub import in_plain_words as refused_by_hub
from proofcard.hub import patiently

# `datasets` reads it when it is imported; without it, it tells a server of every dataset that it opens.
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def streams(name: str, dataset: Dataset) -> dict[str, Any]:
    """A `datasets.IterableDataset` for each split, in the recipe's order.

    Raises:
        Stop: when the files, the subset or a split is not there, or the hub refuses.
    """
    builder = _builder(name, dataset)
    with in_plain_words(name, dataset):
        opened = patiently(builder.as_streaming_dataset)
        # An image or a recording in a row is an address: decoding would follow it.
        return {split: _undecoded(opened[split]) for split in dataset.splits}


def _undecoded(rows: Any) -> Any:
    return rows.decode(False) if rows.features else rows


def files_of(name: str, dataset: Dataset) -> list[str]:
    """The files of the splits: absolute paths, or addresses on the hub."""
    files = _builder(name, dataset).config.data_files
    return list(dict.fromkeys(str(file) for split in dataset.splits for file in files[split]))


def _builder(name: str, dataset: Dataset) -> Any:
    """`datasets`' own reader of the dataset, with every split that is asked for."""
    from datasets import load_dataset_builder

    private_cache.keep_private()
    where = f"calibration.datasets.{name}"
    with in_plain_words(name, dataset):
        if is_on_hub(name, dataset):
            if (card := dataset_files.keep_readme(dataset)) is not None:
                allowed_files.check_card(card.read_bytes(), Path(card.name))
            builder = patiently(
                lambda: load_dataset_builder(dataset.repository, dataset.subset, revision=dataset.revision)
            )
        elif dataset.path and dataset.path.is_dir():
            allowed_files.check_folder(dataset.path)
            if glob.has_magic(str(dataset.path.absolute())):
                raise Stop(
                    f"{where}.path={plain(dataset.path)}: a folder with *, ? or [ in its path cannot be read"
                )
            builder = load_dataset_builder(str(dataset.path.absolute()), dataset.subset)
        else:
            return _of_one_file(where, dataset)
        _check_resolved(where, dataset, builder)
    standing = [str(split) for split in builder.config.data_files or {}]
    missing = [split for split in dataset.splits if split not in standing]
    if missing:
        raise Stop(
            f"{where} has no split {missing[0]}, it has {', '.join(standing)}: correct "
            f"{where}.splits; a local folder needs the dataset's README.md, which tells the files of each"
        )
    return builder


def _check_resolved(where: str, dataset: Dataset, builder: Any) -> None:
    """Raises Stop when what `datasets` would read is not the dataset's own, or takes an unknown reader."""
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in allowed_files.READERS:
        raise Stop(f"{where} holds files for datasets' reader {reader}: JSON lines or Parquet is read")
    files = [str(file) for each in (builder.config.data_files or {}).values() for file in each]
    if dataset.path is not None:
        allowed_files.check_files(files, dataset.path)
        return
    root = f"hf://datasets/{dataset.repository}@{dataset.revision}/"
    if others := [file for file in files if not file.startswith(root) or "::" in file]:
        raise Stop(f"{where} names {plain(others[0])} as data, which is not of the pinned commit")


def is_on_hub(name: str, dataset: Dataset) -> bool:
    """Whether it is read from the hub. Raises Stop when it is neither there nor in a local copy."""
    if dataset.path is None and "/" not in dataset.repository:
        raise Stop(
            f"calibration.datasets.{name}.path is not set: give a local file or folder (.jsonl or .parquet)"
        )
    return dataset.path is None


def _of_one_file(where: str, dataset: Dataset) -> Any:
    from datasets import load_dataset_builder

    assert dataset.path is not None
    try:
        located(dataset.path, None)
    except FileNotFoundError:
        raise Stop(f"{where}.path={dataset.path} does not exist") from None
    if dataset.path.suffix not in _FORMATS:
        raise Stop(f"{where}.path={dataset.path} is no .jsonl, .json or .parquet file")
    if len(dataset.splits) > 1:
        raise Stop(
            f"{where}.path={dataset.path} is one file, but {where}.splits names {len(dataset.splits)}: "
            "give the dataset's folder, or one split"
        )
    allowed_files.check_files([str(dataset.path.absolute())], None)
    files = {dataset.splits[0]: [glob.escape(str(dataset.path.absolute()))]}
    return load_dataset_builder(_FORMATS[dataset.path.suffix], data_files=files)


@contextmanager
def in_plain_words(name: str, dataset: Dataset) -> Iterator[None]:
    """A context in which what keeps a dataset from being read becomes a Stop that says so."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetsError

    try:
        with refused_by_hub(dataset_files.wanted(name, dataset)):
            yield
    except (DataFilesNotFoundError, EmptyDatasetError):
        raise Stop(f"{dataset.path or dataset.repository} holds no file of data") from None
    except (DatasetsError, ValueError, FileNotFoundError) as error:  # an unknown subset, a broken file
        raise Stop(f"calibration.datasets.{name} cannot be read: {one_line(error)[:300]}") from None
    except (LookupError, TypeError, AttributeError, RuntimeError, OSError) as error:
        if is_full(error):
            raise
        said = f"{type(error).__name__}: {plain(one_line(error), 300)}"
        raise Stop(f"calibration.datasets.{name} cannot be read: {said}") from None
