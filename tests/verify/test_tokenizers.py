"""Tokenizer and templates held to the source's, all that may differ left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from proofcard.verify.report import Level
from proofcard.verify.tokenizers import check, object_of

TOKENIZER = {"version": "1.0", "model": {"type": "BPE", "merges": [["a", "b"]], "vocab": {"a": 0, "b": 1}}}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "ours", tmp_path / "theirs"
    for folder in folders:
        folder.mkdir()
        write(folder, "tokenizer.json", TOKENIZER)
        write(
            folder, "tokenizer_config.json", {"eos_token": "b", "tokenizer_class": "PreTrainedTokenizerFast"}
        )
    return folders


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def judged(ours: Path, theirs: Path) -> Level:
    level = Level("structure")
    names = [{path.name for path in folder.iterdir()} for folder in (ours, theirs)]
    check(ours, theirs, names[0], names[1], level)
    return level


def test_how_a_file_is_laid_out_and_its_saver_s_state_may_differ(pair: tuple[Path, Path]) -> None:
    ours, _ = pair
    other = TOKENIZER | {"version": "2.0", "padding": None, "truncation": {"max_length": 4}}
    other["model"] = TOKENIZER["model"] | {"merges": ["a b"]}  # type: ignore[operator]
    (ours / "tokenizer.json").write_text(json.dumps(other, indent=4))
    assert judged(*pair).result == "holds"


def test_another_word_is_a_finding(pair: tuple[Path, Path]) -> None:
    other = TOKENIZER | {"model": TOKENIZER["model"] | {"vocab": {"a": 1, "b": 0}}}  # type: ignore[operator]
    write(pair[0], "tokenizer.json", other)
    assert [each.file for each in judged(*pair).findings] == ["tokenizer.json"]


def test_another_template_is_a_finding_wherever_it_is(pair: tuple[Path, Path]) -> None:
    (pair[1] / "chat_template.jinja").write_text("{{ messages }}\n")
    said = json.loads((pair[0] / "tokenizer_config.json").read_text())
    write(pair[0], "tokenizer_config.json", said | {"chat_template": "{{ messages }}"})
    assert judged(*pair).result == "holds"
    write(pair[0], "tokenizer_config.json", said | {"chat_template": "{{ other }}"})
    assert judged(*pair).result == "differs"


def test_no_tokenizer_at_all_is_left_to_the_engine(pair: tuple[Path, Path]) -> None:
    for path in pair[0].iterdir():
        path.unlink()
    level = judged(*pair)
    assert level.result == "holds" and "engines need the source's" in level.notes[0]


def test_a_file_that_is_no_object_says_why(tmp_path: Path) -> None:
    assert object_of(tmp_path / "none.json") is None
    (tmp_path / "x.json").write_text("[")
    assert isinstance(object_of(tmp_path / "x.json"), str)
