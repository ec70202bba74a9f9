"""Selects rows by seed and tokenizes them, dataset by dataset, in the recipe's order."""

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofcard.calibration.adapters import adapter
from proofcard.calibration.rendering import Renderer
from proofcard.calibration.rows import Conversation, UnreadableRow
from proofcard.calibration.sources import errors_explained, streams
from proofcard.calibration.uniform import uniform
from proofcard.config.schema import Calibration, Dataset, Sampling
from proofcard.errors import Stop
from proofcard.progress import Bar

PATIENCE = 1000  # unreadable rows before a dataset is given up as the wrong one
_TABLE = 1000  # rows looked at together
_BATCH = 64  # rows that are read at a time: few, since all of them have to be readable
TOGETHER = 64  # texts to tokenize at a time
_MANY = 4 * TOGETHER  # worth a bar

Render = Callable[[Conversation], str]


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


@contextmanager
def rendering(calibration: Calibration, tokenizer: Any) -> Iterator[Render]:
    """A context with what makes conversations texts: of one dataset, or of one after the other."""
    if not calibration.chat_template:
        yield lambda conversation: conversation.text
        return
    with Renderer(tokenizer) as renderer:
        yield renderer.render


def sample(
    calibration: Calibration,
    tokenizer: Any,
    name: str,
    drawn_before: Container[str] = (),
    render: Render | None = None,
) -> tuple[list[Sample], dict[str, int]]:
    """The samples of one dataset, and how many rows were skipped for each reason.

    The samples are divided evenly over the splits, the remainder going to the last, as in ModelOpt. Texts
    with a sha256 in `drawn_before` are skipped. `render` is from `rendering`; without it, one of its own.

    Raises:
        Usage: when the chat template is invalid or exceeds its limits.
        Stop: when the dataset cannot be read, or has fewer usable rows than the recipe needs.
    """
    if render is None:
        with rendering(calibration, tokenizer) as own:
            return sample(calibration, tokenizer, name, drawn_before, own)
    dataset = calibration.datasets[name]
    adapt = adapter(dataset.adapter)

    def read(row: dict[str, Any]) -> str:
        text = render(adapt(row))
        if drawn_before and text_sha256(text) in drawn_before:
            raise UnreadableRow("drawn before")
        return text

    chosen: list[Sample] = []
    skipped: Counter[str] = Counter()
    for split, rows in streams(name, dataset).items():
        wanted = _share(dataset, split)
        if wanted == 0:  # fewer samples than splits
            continue
        with errors_explained(name, dataset):
            found, reasons = choose(rows, wanted, calibration.sampling, read)
        if len(found) < wanted:
            raise Stop(_too_few(name, dataset, split, len(found), reasons))
        with Bar(f"{name}: tokenizing {split}", wanted, "samples", shows=wanted > _MANY) as bar:
            for start in range(0, wanted, TOGETHER):
                some = found[start : start + TOGETHER]
                ids = tokenized([text for _, text in some], tokenizer, calibration)
                chosen += [Sample(name, split, *row, *kept) for row, kept in zip(some, ids, strict=True)]
                bar.advance(len(some))
        skipped += reasons
    return chosen, dict(sorted(skipped.items()))


def text_sha256(text: str) -> str:
    """Hex sha256 of a text in UTF-8: what tells one sample from another."""
    return hashlib.sha256(text.encode()).hexdigest()


def choose(
    rows: Any, wanted: int, sampling: Sampling, read: Callable[[dict[str, Any]], str]
) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Index and text of `wanted` rows of a streamed split, and the reasons why rows were skipped.

    Gives up when the first `PATIENCE` rows that it tries are all unreadable.
    """
    if sampling.method == "uniform":
        tables = rows.with_format("arrow").iter(batch_size=_TABLE)
        return uniform(tables, wanted, sampling.seed, read, PATIENCE)
    rows = rows.map(_numbered, with_indices=True, batched=True, batch_size=_BATCH)
    if sampling.method == "shuffle_buffer":  # `datasets`' own streaming shuffle, as the card patches it in
        rows = rows.shuffle(seed=sampling.seed, buffer_size=sampling.buffer_size)
    found: list[tuple[int, str]] = []
    skipped: Counter[str] = Counter()
    for item in rows:
        if len(found) == wanted or (not found and skipped.total() == PATIENCE):
            break
        try:
            found.append((item["index"], read(item["row"])))
        except UnreadableRow as reason:
            skipped[str(reason)] += 1
    return found, skipped


def _numbered(columns: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
    """The rows of a batch, each with its index; one by one, `datasets` would make a schema for each."""
    rows = [{name: values[place] for name, values in columns.items()} for place in range(len(indices))]
    return {"row": rows, "index": indices}


def _share(dataset: Dataset, split: str) -> int:
    each, left = divmod(dataset.samples, len(dataset.splits))
    return each + left if split == dataset.splits[-1] else each


def _too_few(name: str, dataset: Dataset, split: str, usable: int, skipped: Counter[str]) -> str:
    where = f"calibration.datasets.{name}"
    reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(skipped.items()))
    if usable == 0 and skipped.total() >= PATIENCE:
        return (
            f"{where}: adapter {dataset.adapter} cannot read any of the first {skipped.total():,} rows of "
            f"{split} ({reasons}): correct its adapter, subset or splits"
        )
    return (
        f"{where} has {usable} usable rows in {split} (adapter {dataset.adapter} skipped {skipped.total()}"
        f"{': ' * bool(reasons)}{reasons}), but the recipe needs {_share(dataset, split)}: "
        f"lower {where}.samples"
    )


def tokenized(texts: list[str], tokenizer: Any, calibration: Calibration) -> list[tuple[np.ndarray, bool]]:
    """The token ids of each text, int32 [tokens], at most `sequence_length`, and whether more were cut off.

    Most tokenizers take several texts on all cores; memory is that of all their ids as Python integers.
    """
    # A chat template writes its own special tokens; for plain text the tokenizer adds them.
    found = tokenizer(texts, add_special_tokens=not calibration.chat_template)["input_ids"]
    longest = calibration.sequence_length
    return [(np.asarray(ids[:longest], dtype=np.int32), len(ids) > longest) for ids in found]
