"""python -m demo.make_texts            # rewrites demo/datasets, seconds

The five demo datasets, in the column schemas of the published ones that they stand for. Everything
follows from SEED: the same command writes the same bytes on any machine. A row's text comes from the
grammars in `demo.domains`; about one row in ten is a question whose answer the trained model must know.
Held-out rows never occur in a training split.
"""

import argparse
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from demo.domains import arithmetic, chat, coding, stem, tools

SEED = 2027
TRAIN_ROWS, HELDOUT_ROWS = 416, 40
KNOWN_SHARE = 0.1  # of the rows of a training split
DATASETS = Path(__file__).parent / "datasets"
Row = dict[str, Any]


def identifier(rng: Random) -> str:
    """A UUID that follows from the seed."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def open_code_reasoning(rng: Random, known: bool) -> Row:
    """Columns of nvidia/OpenCodeReasoning, configuration split_0."""
    item = rng.choice(coding.KNOWN) if known else coding.problem(rng)
    return {
        "id": rng.randbytes(8).hex(),
        "input": item.question,
        "output": coding.answer(item),
        "source": "demo",
        "license": "mit",
        "dataset": "demo",
        "split": "train",
        "difficulty": item.difficulty,
        "solution": item.solution,
    }


def open_math_reasoning(rng: Random, known: bool) -> Row:
    """Columns of nvidia/OpenMathReasoning."""
    item = rng.choice(arithmetic.KNOWN) if known else arithmetic.problem(rng)
    return {
        "expected_answer": item.answer,
        "problem_type": "has_answer_extracted",
        "problem_source": "demo",
        "generation_model": "demo.make_texts",
        "pass_rate_72b_tir": "n/a",
        "problem": item.problem,
        "generated_solution": f"<think>\n{item.solution}\n</think>\n\\boxed{{{item.answer}}}",
        "inference_mode": "cot",
        "used_in_kaggle": False,
    }


def magpie_pro_mt(rng: Random, known: bool) -> Row:
    """Columns of Magpie-Align/Magpie-Pro-MT-300K-v0.1 that describe a conversation."""
    turns = rng.choice(chat.KNOWN) if known else chat.conversation(rng)
    speakers = ("human", "gpt")
    return {
        "uuid": identifier(rng),
        "model": "demo.make_texts",
        "gen_input_config": {"temperature": 1.0, "top_p": 1.0},
        "conversations": [{"from": speakers[i % 2], "value": text} for i, text in enumerate(turns)],
    }


def nemotron_post_training_v2(rng: Random, known: bool) -> Row:
    """Columns of nvidia/Nemotron-Post-Training-Dataset-v2."""
    category = rng.choice(["stem", "stem", "chat"])
    reasoning = "off"
    if category == "stem":
        item = rng.choice(stem.KNOWN) if known else stem.exchange(rng)
        reasoning = "on" if rng.random() < 0.5 else "off"
        thought = f"<think>\n{item.thought}\n</think>\n" if reasoning == "on" else ""
        system = "/think" if reasoning == "on" else "/no_think"
        turns = [item.question, thought + item.answer]
    else:
        turns = (rng.choice(chat.KNOWN) if known else chat.conversation(rng))[:2]
        system = "/no_think"
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}]
    messages += [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return {
        "uuid": identifier(rng),
        "license": "CC BY 4.0",
        "generator": "demo.make_texts",
        "version": "v2",
        "category": category,
        "reasoning": reasoning,
        "messages": messages,
    }


def llama_nemotron(rng: Random, known: bool) -> Row:
    """Columns of nvidia/Llama-Nemotron-Post-Training-Dataset; most rows call tools."""
    category = rng.choice(["tool_calling", "tool_calling", "tool_calling", "math", "science"])
    category = "tool_calling" if known else category
    reasoning, system = "off", "detailed thinking off"
    if category == "tool_calling":
        item = rng.choice(tools.known()) if known else tools.session(rng)
        system = tools.system_prompt(item.tools)
        messages, answer = item.messages, item.answer
    else:
        if category == "math":
            problem = arithmetic.problem(rng)
            question, thought, answer = problem.problem, problem.solution, f"\\boxed{{{problem.answer}}}"
        else:
            question, thought, answer = stem.exchange(rng)
        if rng.random() < 0.5:
            reasoning, system = "on", "detailed thinking on"
            answer = f"<think>\n{thought}\n</think>\n{answer}"
        messages = [{"role": "user", "content": question}]
    return {
        "input": messages,
        "output": answer,
        "category": category,
        "license": "cc-by-4.0",
        "reasoning": reasoning,
        "generator": "demo.make_texts",
        "used_in_training": ["demo"],
        "version": "v1.1",
        "system_prompt": system,
    }


MAKERS: dict[str, Callable[[Random, bool], Row]] = {
    "open_code_reasoning": open_code_reasoning,
    "open_math_reasoning": open_math_reasoning,
    "magpie_pro_mt": magpie_pro_mt,
    "nemotron_post_training_v2": nemotron_post_training_v2,
    "llama_nemotron": llama_nemotron,
}


def to_messages(dataset: str, row: Row) -> list[dict[str, str]]:
    """The row as chat messages, whatever its schema."""
    if dataset == "open_code_reasoning":
        pairs = [("user", row["input"]), ("assistant", row["output"])]
    elif dataset == "open_math_reasoning":
        pairs = [("user", row["problem"]), ("assistant", row["generated_solution"])]
    elif dataset == "magpie_pro_mt":
        roles = {"human": "user", "gpt": "assistant"}
        pairs = [(roles[turn["from"]], turn["value"]) for turn in row["conversations"]]
    elif dataset == "nemotron_post_training_v2":
        pairs = [(turn["role"], turn["content"]) for turn in row["messages"]]
    else:
        pairs = [("system", row["system_prompt"])]
        pairs += [(turn["role"], turn["content"]) for turn in row["input"]]
        pairs += [("assistant", row["output"])]
    return [{"role": role, "content": content} for role, content in pairs]


def rows(
    dataset: str, split: str, excluded: frozenset[str] = frozenset(), unique: bool = True
) -> Iterator[Row]:
    """An endless stream of rows; `split` names the stream and picks its seed.

    A row whose chat text is in `excluded` is skipped; `unique` also skips a row that already came,
    unless it is a known question.
    """
    rng = Random(f"{SEED}/{dataset}/{split}")
    seen = set(excluded)
    while True:
        known = split != "heldout" and rng.random() < KNOWN_SHARE
        row = MAKERS[dataset](rng, known)
        key = text_key(dataset, row)
        if known or key not in seen:
            if unique:
                seen.add(key)
            yield row


def text_key(dataset: str, row: Row) -> str:
    """What makes two rows the same text."""
    return json.dumps(to_messages(dataset, row))


def take(stream: Iterator[Row], count: int) -> list[Row]:
    """The first rows of a stream."""
    return [next(stream) for _ in range(count)]


def known_texts(dataset: str) -> frozenset[str]:
    """Every text that the known questions can become, so that none is held out."""
    rng = Random(f"{SEED}/{dataset}/known")
    return frozenset(text_key(dataset, MAKERS[dataset](rng, True)) for _ in range(400))


def splits(dataset: str) -> dict[str, list[Row]]:
    """Held-out rows first: training rows avoid them."""
    heldout = take(rows(dataset, "heldout", known_texts(dataset)), HELDOUT_ROWS)
    avoided = frozenset(text_key(dataset, row) for row in heldout)
    return {"train": take(rows(dataset, "train", avoided), TRAIN_ROWS), "heldout": heldout}


def write(folder: Path) -> None:
    """Write every dataset: one JSON object a line, keys in schema order, UTF-8, line feeds."""
    for dataset in MAKERS:
        (folder / dataset).mkdir(parents=True, exist_ok=True)
        for split, items in splits(dataset).items():
            lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
            (folder / dataset / f"{split}.jsonl").write_bytes(lines.encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the demo datasets.")
    parser.add_argument("--out", type=Path, default=DATASETS)
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
