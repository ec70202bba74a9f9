"""What an adapter makes of a dataset's row, and what several of them read in one way.

A conversation is what a chat template takes, and the plain text that the row makes without one. The plain
text is ModelOpt 0.43.0's own (`preprocess` in `modelopt/torch/utils/dataset_utils.py`), character for
character. A row that does not have an adapter's shape raises `OtherShape`, whose message is the reason.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Row = dict[str, Any]

AS_THEY_ARE = {role: role for role in ("system", "user", "assistant", "tool")}
_KINDS: dict[type, str] = {str: "a text", list: "a list", dict: "a record"}


class OtherShape(ValueError):
    """A row that an adapter cannot read. Its message names the reason, never the row's content."""


@dataclass(frozen=True)
class Conversation:
    """Chat messages of `role`, `content` and perhaps `tool_calls`; the tools declared; the plain text."""

    messages: tuple[Message, ...]
    text: str
    tools: tuple[dict[str, Any], ...] = ()


def asked_and_answered(row: Row, question: str, answer: str) -> Conversation:
    """One question and its answer, each a column."""
    asked, answered = text_of(row, question), text_of(row, answer)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return conversation(turns, f"{asked}\n{answered}")


def input_and_output(row: Row) -> Conversation:
    """`input`, a text or messages of role and content, and its `output`."""
    output = text_of(row, "output")
    if isinstance(row.get("input"), str):
        asked: list[Message] = [{"role": "user", "content": row["input"]}]
    else:
        asked = turns_of(row, "input", "role", "content")
    return conversation([*asked, {"role": "assistant", "content": output}], f"{lines(asked)}\n{output}")


def plain_text(row: Row, column: str) -> Conversation:
    """A column of plain text, for recipes without a chat template."""
    said = text_of(row, column)
    return conversation([{"role": "user", "content": said}], said)


def conversation(turns: list[Message], plain: str, tools: Iterable[Any] = ()) -> Conversation:
    """The turns as a conversation. Raises OtherShape when nobody says a word in it."""
    if not any(turn["content"].strip() or "tool_calls" in turn for turn in turns):
        raise OtherShape("not a word in it")
    return Conversation(tuple(turns), plain, tuple(tools))


def turns_of(
    row: Row, column: str, role: str, content: str, roles: dict[str, str] = AS_THEY_ARE
) -> list[Message]:
    """The turns of a column, in which `role` and `content` name the keys of one. Raises OtherShape."""
    turns: list[Message] = []
    for turn in typed(row, column, list):
        if text_of(record_of(turn, f"a turn of {column}"), role) not in roles:
            raise OtherShape(f"a turn of {column} has an unknown {role}")
        only_calls = turn.get("tool_calls") and turn.get(content) is None
        turns.append({"role": roles[turn[role]], "content": "" if only_calls else text_of(turn, content)})
    return turns


def lines(turns: list[Message]) -> str:
    """What is said, one turn after the other."""
    return "\n".join(turn["content"] for turn in turns)


def text_of(row: Row, column: str) -> str:
    """A column's text. Raises OtherShape."""
    return str(typed(row, column, str))


def typed(row: Row, column: str, kind: type) -> Any:
    """A column's value of that type. Raises OtherShape."""
    if column not in row:
        raise OtherShape(f"no {column}")
    if not isinstance(row[column], kind):
        raise OtherShape(f"{column} is not {_KINDS[kind]}")
    return row[column]


def json_of(written: Any, what: str) -> dict[str, Any]:
    """A record written as JSON. Raises OtherShape."""
    try:
        return record_of(json.loads(written), what)
    except (TypeError, json.JSONDecodeError):
        raise OtherShape(f"{what} is not JSON") from None


def record_of(value: Any, what: str) -> dict[str, Any]:
    """The value, a record. Raises OtherShape."""
    if not isinstance(value, dict):
        raise OtherShape(f"{what} is no record")
    return value
