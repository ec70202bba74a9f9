"""From a dataset's row to chat messages: one function per column schema of the card's datasets.

A message is `{"role": "system" | "user" | "assistant" | "tool", "content": text}`. An adapter raises
KeyError, TypeError or ValueError on a row of another shape; the sampler counts and skips such rows.
"""

from collections.abc import Callable
from typing import Any

Message = dict[str, str]
Row = dict[str, Any]

_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "tool": "tool"}


def open_code_reasoning(row: Row) -> list[Message]:
    """nvidia/OpenCodeReasoning: a problem in `input`, reasoning and code in `output`."""
    return _turns(("user", row["input"]), ("assistant", row["output"]))


def open_math_reasoning(row: Row) -> list[Message]:
    """nvidia/OpenMathReasoning: `problem` and `generated_solution`."""
    return _turns(("user", row["problem"]), ("assistant", row["generated_solution"]))


def magpie_pro_mt(row: Row) -> list[Message]:
    """Magpie-Align/Magpie-Pro-MT-300K-v0.1: `conversations` of from/value pairs."""
    return _turns(*((_ROLES[turn["from"]], turn["value"]) for turn in row["conversations"]))


def nemotron_post_training_v2(row: Row) -> list[Message]:
    """nvidia/Nemotron-Post-Training-Dataset-v2: `messages` of role/content pairs."""
    return _turns(*((turn["role"], turn["content"]) for turn in row["messages"]))


def llama_nemotron(row: Row) -> list[Message]:
    """nvidia/Llama-Nemotron-Post-Training-Dataset: `input` messages, answered by `output`."""
    asked = row["input"]
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    return _turns(*((turn["role"], turn["content"]) for turn in asked), ("assistant", row["output"]))


def text(row: Row) -> list[Message]:
    """Plain text in `text`: one message, for recipes without a chat template."""
    return _turns(("user", row["text"]))


def _turns(*turns: tuple[str, str]) -> list[Message]:
    messages = [{"role": role, "content": content} for role, content in turns]
    for message in messages:
        if message["role"] not in _ROLES.values() or not isinstance(message["content"], str):
            raise ValueError(f"not a chat message: {message}")
    if not any(message["content"].strip() for message in messages):
        raise ValueError("a conversation without a word in it")
    return messages


ADAPTERS: dict[str, Callable[[Row], list[Message]]] = {
    function.__name__: function
    for function in (
        open_code_reasoning,
        open_math_reasoning,
        magpie_pro_mt,
        nemotron_post_training_v2,
        llama_nemotron,
        text,
    )
}
