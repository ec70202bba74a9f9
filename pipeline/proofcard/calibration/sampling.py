"""Choosing rows by seed and turning them into tokens, dataset by dataset, in the recipe's order."""

import hashlib
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofcard.calibration.adapters import adapter
from proofcard.calibration.rendering import Renderer
from proofcard.calibration.rows import Conversation, OtherShape
from proofcard.calibration.sources import in_plain_words, streams
from proofcard.calibration.uniform import uniform
from proofcard.config.schema import Calibration, Dataset, Sampling
from proofcard.errors import Stop

PATIENCE = 1000  # rows of another shape before a dataset is taken for another one
_TABLE = 1000  # rows looked at together


@dataclass(frozen=True)
class Sample:
    """One frozen sample: its text as it was tokenized, and `token_ids` int32 [tokens], not padded.

    `row` counts from 0 in the split as it was read: `shuffle_buffer` shuffles a split's files too, if there
    are several.
    """

    dataset: str
    split: str
    row: int
    text: str
    token_ids: np.ndarray
    truncated: bool

    @property
    def text_sha256(self) -> str:
        """Hex sha256 of its text."""
        return text_sha256(self.text)

    def record(self) -> dict[str, Any]:
        """The sample without its tokens, for the sample set's index."""
        tokens = self.token_ids.astype("<i4").tobytes()
        return {
            "dataset": self.dataset,
            "split": self.split,
            "row": self.row,
            "text_sha256": self.text_sha256,
            "tokens": len(self.token_ids),
            "tokens_sha256": hashlib.sha256(tokens).hexdigest(),
            "truncated": self.truncated,
        }


def sample(
    calibration: Calibration, tokenizer: Any, name: str, drawn_before: Container[str] = ()
) -> tuple[list[Sample], dict[str, int]]:
    """The samples of one dataset, and how many rows were skipped on the way for each reason.

    The samples are shared out over the splits, the remainder to the last, as ModelOpt does it. Texts with a
    sha256 in `drawn_before` are skipped.

    Raises:
        Usage: when the chat template is none, or works without end.
        Stop: when the dataset cannot be read, or has fewer usable rows than the recipe asks for.
    """
    if not calibration.chat_template:
        return _sample(calibration, tokenizer, name, lambda conversation: conversation.text, drawn_before)
    with Renderer(tokenizer) as renderer:
        return _sample(calibration, tokenizer, name, renderer.render, drawn_before)


def _sample(
    calibration: Calibration,
    tokenizer: Any,
    name: str,
    render: Callable[[Conversation], str],
    drawn_before: Container[str],
) -> tuple[list[Sample], dict[str, int]]:
    dataset = calibration.datasets[name]
    adapt = adapter(dataset.adapter)

    def read(row: dict[str, Any]) -> str:
        text = render(adapt(row))
        if drawn_before and text_sha256(text) in drawn_before:
            raise OtherShape("drawn before")
        return text

    chosen: list[Sample] = []
    skipped: Counter[str] = Counter()
    for split, rows in streams(name, dataset).items():
        wanted = _share(dataset, split)
        if wanted == 0:  # fewer samples than splits
            continue
        with in_plain_words(name, dataset):
            found, reasons = choose(rows, wanted, calibration.sampling, read)
        if len(found) < wanted:
            raise Stop(_too_few(name, dataset, split, len(found), reasons))
        chosen += [_tokenized(name, split, index, text, tokenizer, calibration) for index, text in found]
        skipped += reasons
    return chosen, dict(sorted(skipped.items()))


def text_sha256(text: str) -> str:
    """Hex sha256 of a text in UTF-8: what tells one sample from another."""
    return hashlib.sha256(text.encode()).hexdigest()


def choose(
    rows: Any, wanted: int, sampling: Sampling, read: Callable[[dict[str, Any]], str]
) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Index and text of `wanted` rows of a streamed split, and why others before them were skipped.

    Gives up when the first rows that it tries, `PATIENCE` of them, are all of another shape.
    """
    if sampling.method == "uniform":
        tables = rows.with_format("arrow").iter(batch_size=_TABLE)
        return uniform(tables, wanted, sampling.seed, read, PATIENCE)
    rows = rows.map(lambda row, index: {"row": row, "index": index}, with_indices=True)
    if sampling.method == "shuffle_buffer":  # `datasets`' own streaming shuffle, as the card patches it in
        rows = rows.shuffle(seed=sampling.seed, buffer_size=sampling.buffer_size)
    found: list[tuple[int, str]] = []
    skipped: Counter[str] = Counter()
    for item in rows:
        if len(found) == wanted or (not found and skipped.total() == PATIENCE):
            break
        try:
            found.append((item["index"], read(item["row"])))
        except OtherShape as reason:
            skipped[str(reason)] += 1
    return found, skipped


def _share(dataset: Dataset, split: str) -> int:
    each, left = divmod(dataset.samples, len(dataset.splits))
    return each + left if split == dataset.splits[-1] else each


def _too_few(name: str, dataset: Dataset, split: str, usable: int, skipped: Counter[str]) -> str:
    where = f"calibration.datasets.{name}"
    reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(skipped.items()))
    if usable == 0 and skipped.total() >= PATIENCE:
        return (
            f"{where}: none of the first {skipped.total():,} rows of {split} has the shape that the adapter "
            f"{dataset.adapter} reads ({reasons}): correct its adapter, subset or splits"
        )
    return (
        f"{where} has {usable} usable rows in {split} ({skipped.total()} of another shape than "
        f"{dataset.adapter}{': ' * bool(reasons)}{reasons}), the recipe asks for {_share(dataset, split)}: "
        f"set {where}.samples"
    )


def _tokenized(
    name: str, split: str, index: int, text: str, tokenizer: Any, calibration: Calibration
) -> Sample:
    kept, truncated = tokenized(text, tokenizer, calibration)
    return Sample(
        dataset=name,
        split=split,
        row=index,
        text=text,
        token_ids=kept,
        truncated=truncated,
    )


def tokenized(text: str, tokenizer: Any, calibration: Calibration) -> tuple[np.ndarray, bool]:
    """The token ids of a text, int32 [tokens], at most `sequence_length`, and whether more were cut off."""
    # A chat template writes its own special tokens; plain text gets the tokenizer's.
    ids = tokenizer(text, add_special_tokens=not calibration.chat_template)["input_ids"]
    kept = ids[: calibration.sequence_length]
    return np.asarray(kept, dtype=np.int32), len(kept) < len(ids)
