"""python -m demo.make_questions        # rewrites demo/questions, seconds

Questions for `proofcard tasks`, as lm-evaluation-harness reads them, from the grammars in `demo.domains`.
None was in a text that the model was trained on, nor in a held-out one, and every answer can be judged by
comparing it. All follows from the seed of the texts.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from demo import make_texts
from demo.domains import arithmetic, coding, stem, tools

QUESTIONS = 75  # of each task
EXTRA_ROWS = 1600  # of each dataset, beyond its files, in the training (demo/train.py)
FOLDER = Path(__file__).parent / "questions"
Question = dict[str, str]


def of_arithmetic(rng: Random) -> Question:
    """A problem; the answer is the number in the box."""
    item = arithmetic.problem(rng)
    return {"system": "", "question": item.problem, "answer": item.answer}


def of_science(rng: Random) -> Question:
    """A quantity from two others; the answer is the sentence."""
    item = stem.exchange(rng)
    return {"system": "/think", "question": item.question, "answer": item.answer}


def of_programs(rng: Random) -> Question:
    """A small program; there is one that the texts teach."""
    item = coding.problem(rng)
    return {"system": "", "question": item.question, "answer": item.solution}


def of_tools(rng: Random) -> Question:
    """A request and one or two tools; the answer is the call."""
    while True:
        item = tools.session(rng)
        if len(item.messages) == 1:
            system = tools.system_prompt(item.tools)
            return {"system": system, "question": item.messages[0]["content"], "answer": item.answer}


MAKERS: dict[str, Callable[[Random], Question]] = {
    "demo_arithmetic": of_arithmetic,
    "demo_science": of_science,
    "demo_programs": of_programs,
    "demo_tools": of_tools,
}
PATTERNS = {
    "demo_arithmetic": ("boxed", r"\\boxed\{(-?[0-9]+)\}"),
    "demo_programs": ("program", r"```python\n((?:.|\n)*?)\n```"),
}


def seen() -> set[str]:
    """Every question of every text that the model was trained on, and of the held-out ones."""
    found = set()
    for dataset in make_texts.MAKERS:
        splits = make_texts.splits(dataset)
        avoided = frozenset(make_texts.text_key(dataset, row) for row in splits["heldout"])
        extra = make_texts.rows(dataset, "extra", avoided, unique=False)
        for row in [*splits["train"], *splits["heldout"], *make_texts.take(extra, EXTRA_ROWS)]:
            messages = make_texts.to_messages(dataset, row)
            found |= {message["content"] for message in messages if message["role"] == "user"}
    return found


def questions(task: str, avoided: set[str]) -> list[Question]:
    """The questions of a task, none of them twice."""
    rng, asked = Random(f"{make_texts.SEED}/questions/{task}"), set(avoided)
    found: list[Question] = []
    while len(found) < QUESTIONS:
        question = MAKERS[task](rng)
        if question["question"] not in asked:
            asked.add(question["question"])
            found.append(question)
    return found


def described(task: str) -> dict[str, Any]:
    """The task as the harness reads it: JSON is YAML."""
    filters: list[dict[str, Any]] = []
    if task in PATTERNS:
        name, pattern = PATTERNS[task]
        steps = [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]
        filters = [{"name": name, "filter": steps}]
    return {
        "task": task,
        "dataset_path": "json",  # conf/tasks/demo.yaml gives the folder
        "dataset_kwargs": {"data_files": {"test": f"{task}.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "description": "{{system}}",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        **({"filter_list": filters} if filters else {}),
        "generation_kwargs": {"until": []},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
        "metadata": {"version": 1},
    }


def write(folder: Path) -> None:
    """Each task's questions, one JSON object a line, and its description."""
    folder.mkdir(parents=True, exist_ok=True)
    avoided = seen()
    for task in MAKERS:
        lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in questions(task, avoided))
        (folder / f"{task}.jsonl").write_bytes(lines.encode())
        (folder / f"{task}.yaml").write_text(json.dumps(described(task), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the demo's questions.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
