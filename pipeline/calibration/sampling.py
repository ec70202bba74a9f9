"""Choosing rows by seed and turning them into tokens, dataset by dataset, in the recipe's order."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.calibration.adapters import ADAPTERS, Message
from pipeline.config.schema import Calibration, Dataset, Sampling
from pipeline.digest import all_files
from pipeline.errors import Stop

# Some templates write the day into the system prompt: the same samples on every day need one fixed day.
_DAY = datetime(2025, 1, 1)
_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Sample:
    """One frozen sample. `token_ids` int32 [tokens], not padded; `row` counts from 0 in the split."""

    dataset: str
    row: int
    text_sha256: str
    token_ids: np.ndarray
    truncated: bool

    def record(self) -> dict[str, Any]:
        """The sample without its tokens, for the sample set's index."""
        tokens = self.token_ids.astype("<i4").tobytes()
        return {
            "dataset": self.dataset,
            "row": self.row,
            "text_sha256": self.text_sha256,
            "tokens": len(self.token_ids),
            "tokens_sha256": hashlib.sha256(tokens).hexdigest(),
            "truncated": self.truncated,
        }


def data_files(name: str, dataset: Dataset) -> list[Path]:
    """The local files of a dataset, sorted by name.

    Raises:
        Stop: when the path is not set, does not exist or holds no JSON Lines or Parquet file.
    """
    where = f"calibration.datasets.{name}.path"
    if dataset.path is None:
        raise Stop(f"{where} is not set: give a local copy of {dataset.repository} (.jsonl or .parquet)")
    if not dataset.path.exists():
        raise Stop(f"{where}={dataset.path} does not exist")
    found = all_files(dataset.path) if dataset.path.is_dir() else [dataset.path]
    found = [path for path in found if path.suffix in _BUILDERS]
    if not found:
        raise Stop(f"{where}={dataset.path} holds no .jsonl, .json or .parquet file")
    if len({_BUILDERS[path.suffix] for path in found}) > 1:
        raise Stop(f"{where}={dataset.path} mixes JSON and Parquet: give one of them")
    return found


def draw(name: str, dataset: Dataset, sampling: Sampling) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row index and row of every row of the dataset, in the order that the seed gives.

    `shuffle_buffer` is `datasets`' own streaming shuffle, the card's `shuffle(seed, buffer_size)`.
    """
    from datasets import load_dataset

    files = [str(path) for path in data_files(name, dataset)]
    builder = _BUILDERS[Path(files[0]).suffix]
    rows = load_dataset(builder, data_files={"train": files}, split="train", streaming=True)
    rows = rows.map(lambda row, index: {"row": row, "index": index}, with_indices=True)
    if sampling.method == "shuffle_buffer":
        rows = rows.shuffle(seed=sampling.seed, buffer_size=sampling.buffer_size)
    for item in rows:
        yield item["index"], item["row"]


def sample(calibration: Calibration, tokenizer: Any, name: str) -> tuple[list[Sample], int]:
    """The samples of one dataset and how many rows of another shape were skipped on the way.

    Raises:
        Stop: when the dataset has fewer usable rows than the recipe asks for.
    """
    dataset = calibration.datasets[name]
    adapt = ADAPTERS[dataset.adapter]
    chosen: list[Sample] = []
    skipped = 0
    for index, row in draw(name, dataset, calibration.sampling):
        try:
            text = render(adapt(row), tokenizer, calibration.chat_template)
        except (KeyError, TypeError, ValueError):
            skipped += 1
            continue
        chosen.append(_tokenized(name, index, text, tokenizer, calibration))
        if len(chosen) == dataset.samples:
            return chosen, skipped
    raise Stop(
        f"calibration.datasets.{name} has {len(chosen)} usable rows ({skipped} of another shape than "
        f"{dataset.adapter}), the recipe asks for {dataset.samples}: set calibration.datasets.{name}.samples"
    )


def render(messages: list[Message], tokenizer: Any, chat_template: bool) -> str:
    """The text that is tokenized: through the model's chat template, or the contents line by line."""
    if chat_template:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, strftime_now=_DAY.strftime))
    return "\n".join(message["content"] for message in messages)


def _tokenized(name: str, index: int, text: str, tokenizer: Any, calibration: Calibration) -> Sample:
    # A chat template writes its own special tokens; plain text gets the tokenizer's.
    ids = tokenizer(text, add_special_tokens=not calibration.chat_template)["input_ids"]
    kept = ids[: calibration.sequence_length]
    return Sample(
        dataset=name,
        row=index,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        token_ids=np.asarray(kept, dtype=np.int32),
        truncated=len(kept) < len(ids),
    )
