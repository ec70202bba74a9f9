"""A sealed sample set read back, and its batches: the same tokens for every batch size."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proofcard import json_files
from proofcard.calibration.sample_files import INDEX, TOKENS
from proofcard.checkpoint.tensors import read_header
from proofcard.config.schema import Calibration
from proofcard.errors import Stop
from proofcard.files import read_bytes


@dataclass(frozen=True)
class Batch:
    """`input_ids` int64 [samples, tokens], `attention_mask` int64 of the same shape, 0 where padded.

    `dataset` is where its samples are from: two names with a + between them where it holds some of both.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    dataset: str = ""


def read_samples(directory: Path) -> list[np.ndarray]:
    """The token ids of every sample, int32 [tokens] each, in the set's order.

    Raises:
        Stop: when the file does not hold them, and as `read_header`.
    """
    stored = read_header(directory / TOKENS)
    kinds = {name: (tensor.dtype, len(tensor.shape)) for name, tensor in stored.items()}
    if kinds != {"input_ids": ("I32", 1), "lengths": ("I64", 1)}:
        raise Stop(f"{directory / TOKENS} does not hold input_ids and lengths as a sample set has them")
    tokens, lengths = stored["input_ids"].bits(), stored["lengths"].bits()
    if (lengths < 0).any() or (lengths > len(tokens)).any() or lengths.sum() != len(tokens):
        raise Stop(f"{directory / TOKENS}: its lengths are not those of {len(tokens)} tokens")
    return np.split(tokens, np.cumsum(lengths)[:-1])


def read_index(directory: Path) -> list[dict[str, object]]:
    """The record of every sample: dataset, row, digests, length.

    Raises:
        Stop: for a line that is no record, and as `files.opened`.
    """
    lines = read_bytes(directory / INDEX, directory, json_files.SETTINGS).splitlines()
    records = [json_files.parse(line, f"{INDEX}, line {n}") for n, line in enumerate(lines, 1)]
    if not all(isinstance(record, dict) for record in records):
        raise Stop(f"{directory / INDEX} is no list of samples")
    return records


def batches(samples: list[np.ndarray], calibration: Calibration, pad_id: int) -> Iterator[Batch]:
    """Consecutive samples, padded on the recipe's side to the longest of their batch or of the whole set."""
    size = calibration.batch_size
    longest_of_all = max((len(ids) for ids in samples), default=0)
    origins = [name for name, dataset in calibration.datasets.items() for _ in range(dataset.samples)]
    for first in range(0, len(samples), size):
        group = samples[first : first + size]
        longest = longest_of_all if calibration.pad_to == "set" else max(len(ids) for ids in group)
        input_ids = np.full((len(group), longest), pad_id, np.int64)
        mask = np.zeros_like(input_ids)
        for row, ids in enumerate(group):
            start = longest - len(ids) if calibration.padding_side == "left" else 0
            input_ids[row, start : start + len(ids)] = ids
            mask[row, start : start + len(ids)] = 1
        yield Batch(input_ids, mask, "+".join(dict.fromkeys(origins[first : first + size])))


def dataset_names(batches: list[Batch]) -> list[str]:
    """Where samples are from, each once, in the order of the batches."""
    return list(dict.fromkeys(batch.dataset for batch in batches))
