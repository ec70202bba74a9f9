"""What an adapter turns a dataset's row into, and the functions that several adapters share.

A conversation holds the messages for a chat template, and the plain text for a recipe without one. The plain
text is ModelOpt 0.43.0's own (`preprocess` in `modelopt/torch/utils/dataset_utils.py`), character for
character. A row without an adapter's columns raises `UnreadableRow`, whose message is the reason.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Row = dict[str, Any]

SAME_ROLES = {role: role for role in ("system", "user", "assistant", "tool")}
_KINDS: dict[type, str] = {str: "a text", list: "a list", dict: "a record"}


class UnreadableRow(ValueError):
    """A row that an adapter cannot read. Its message gives the reason, never the row's content."""


@dataclass(frozen=True)
class Conversation:
    """Chat messages with `role`, `content` and perhaps `tool_calls`; declared tools; the plain text."""

    messages: tuple[Message, ...]
    text: str
    tools: tuple[dict[str, Any], ...] = ()


def question_and_answer(row: Row, question: str, answer: str) -> Conversation:
    """One question and its answer, in two columns."""
    asked, answered = text_of(row, question), text_of(row, answer)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return conversation(turns, f"{asked}\n{answered}")


def input_and_output(row: Row) -> Conversation:
    """`input`, either text or messages with role and content, and its `output`."""
    output = text_of(row, "output")
    if isinstance(row.get("input"), str):
        asked: list[Message] = [{"role": "user", "content": row["input"]}]
    else:
        asked = turns_of(row, "input", "role", "content")
    return conversation([*asked, {"role": "assistant", "content": output}], f"{lines(asked)}\n{output}")


def plain_text(row: Row, column: str) -> Conversation:
    """A column of plain text, for recipes without a chat template."""
    text = text_of(row, column)
    return conversation([{"role": "user", "content": text}], text)


def conversation(turns: list[Message], plain: str, tools: Iterable[Any] = ()) -> Conversation:
    """The turns as a conversation. Raises UnreadableRow when all of them are empty."""
    if not any(turn["content"].strip() or "tool_calls" in turn for turn in turns):
        raise UnreadableRow("no text")
    return Conversation(tuple(turns), plain, tuple(tools))


def turns_of(
    row: Row, column: str, role: str, content: str, roles: dict[str, str] = SAME_ROLES
) -> list[Message]:
    """The turns in a column; `role` and `content` are the keys of a turn. Raises UnreadableRow."""
    turns: list[Message] = []
    for turn in typed(row, column, list):
        if text_of(record_of(turn, f"a turn of {column}"), role) not in roles:
            raise UnreadableRow(f"a turn of {column} has an unknown {role}")
        only_calls = turn.get("tool_calls") and turn.get(content) is None
        turns.append({"role": roles[turn[role]], "content": "" if only_calls else text_of(turn, content)})
    return turns


def lines(turns: list[Message]) -> str:
    """The contents of all turns, one after the other."""
    return "\n".join(turn["content"] for turn in turns)


def text_of(row: Row, column: str) -> str:
    """A column's text. Raises UnreadableRow."""
    return str(typed(row, column, str))


def typed(row: Row, column: str, kind: type) -> Any:
    """A column's value of that type. Raises UnreadableRow."""
    if column not in row:
        raise UnreadableRow(f"no {column}")
    if not isinstance(row[column], kind):
        raise UnreadableRow(f"{column} is not {_KINDS[kind]}")
    return row[column]


def json_of(written: Any, what: str) -> dict[str, Any]:
    """A record written as JSON. Raises UnreadableRow."""
    try:
        return record_of(json.loads(written), what)
    except (TypeError, json.JSONDecodeError):
        raise UnreadableRow(f"{what} is not JSON") from None


def record_of(value: Any, what: str) -> dict[str, Any]:
    """The value, a record. Raises UnreadableRow."""
    if not isinstance(value, dict):
        raise UnreadableRow(f"{what} is not a record")
    return value
