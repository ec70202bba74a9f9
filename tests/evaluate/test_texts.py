"""Texts of a file, and the proof that others are held out."""

import json
from pathlib import Path
from typing import Any

import pytest

from proofcard.config.evaluating import Evaluation
from proofcard.errors import Stop
from proofcard.evaluate import texts

ASKED = Evaluation(
    name="test", candidates=None, routes=True, text=None, rows=2, sequence_length=4, seed=1, resamples=100,
    together=1,
)  # fmt: skip


def tokenizer(text: str) -> dict[str, Any]:
    return {"input_ids": [len(word) for word in text.split()]}


def of(tmp_path: Path, *lines: str) -> Any:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return texts.of_file(path, ASKED, tokenizer)


def test_lines_become_texts_cut_at_the_length(tmp_path: Path) -> None:
    found = of(
        tmp_path, '{"text": "a bb ccc dddd eeeee"}', '{"text": "a bb", "dataset": "short"}', '{"text": "a"}'
    )
    assert [one.token_ids.tolist() for one in found.each] == [[1, 2, 3, 4], [1, 2]]
    assert [one.dataset for one in found.each] == ["texts", "short"]
    assert [batch.input_ids.shape for batch in found.batches()] == [(1, 4), (1, 2)]
    assert json.loads(found.index().splitlines()[0])["truncated"] is True
    assert found.sha256() != of(tmp_path, '{"text": "a bb ccc dddd"}').sha256()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[1]", "line 1 is not an object"),
        ('{"text": 3}', "line 1 is not an object"),
        ('{"text": "a b", "dataset": 1}', "line 1 is not an object"),
        ("{", "line 1"),
        ('{"text": "a"}', "no text has two tokens"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(Stop, match=sentence):
        of(tmp_path, line)


def test_a_file_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="has no text"):
        of(tmp_path)
    with pytest.raises(FileNotFoundError):
        texts.of_file(tmp_path / "missing.jsonl", ASKED, tokenizer)


def test_what_is_not_a_sample_set_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        texts.digests(tmp_path, "0" * 64)
