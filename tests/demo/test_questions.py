"""The demo's questions: the same again from their seed, and new to the model."""

import json
from pathlib import Path

from demo import make_questions, train


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    make_questions.write(tmp_path)
    names = sorted(path.name for path in make_questions.FOLDER.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names and len(names) == 8
    for name in names:
        assert (tmp_path / name).read_bytes() == (make_questions.FOLDER / name).read_bytes()


def test_none_was_in_a_text_of_the_training_or_held_out() -> None:
    assert make_questions.EXTRA_ROWS == train.EXTRA_ROWS
    seen, asked = make_questions.seen(), []
    for task in make_questions.MAKERS:
        lines = (make_questions.FOLDER / f"{task}.jsonl").read_text().splitlines()
        asked += [(task, json.loads(line)["question"]) for line in lines]
    assert len(asked) == len(set(asked)) == 300
    assert not seen & {question for _, question in asked}
