"""From a dataset's row to a conversation: one function for each column schema.

A conversation is what a chat template takes, and the plain text that the row makes without one. The plain
text is ModelOpt 0.43.0's own (`preprocess` in `modelopt/torch/utils/dataset_utils.py`), character for
character. A row that does not have an adapter's shape raises `OtherShape`, whose message is the reason.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Row = dict[str, Any]

_AS_THEY_ARE = {role: role for role in ("system", "user", "assistant", "tool")}
_SHAREGPT = {"human": "user", "gpt": "assistant"} | _AS_THEY_ARE
_KINDS: dict[type, str] = {str: "a text", list: "a list", dict: "a record"}


class OtherShape(ValueError):
    """A row that an adapter cannot read. Its message names the reason, never the row's content."""


@dataclass(frozen=True)
class Conversation:
    """Chat messages of `role`, `content` and perhaps `tool_calls`; the tools declared; the plain text."""

    messages: tuple[Message, ...]
    text: str
    tools: tuple[dict[str, Any], ...] = ()


def open_code_reasoning(row: Row) -> Conversation:
    """nvidia/OpenCodeReasoning: a problem in `input`, reasoning and code in `output`."""
    return _asked_and_answered(row, "input", "output")


def open_math_reasoning(row: Row) -> Conversation:
    """nvidia/OpenMathReasoning: `problem` and `generated_solution`."""
    return _asked_and_answered(row, "problem", "generated_solution")


def magpie_pro_mt(row: Row) -> Conversation:
    """Magpie-Align/Magpie-Pro-MT-300K-v0.1: `conversations` of from/value pairs."""
    turns = _turns(row, "conversations", "from", "value", _SHAREGPT)
    return _conversation(turns, _lines(turns))


def nemotron_post_training_v2(row: Row) -> Conversation:
    """nvidia/Nemotron-Post-Training-Dataset-v2: `messages` of role/content pairs."""
    turns = _turns(row, "messages", "role", "content")
    return _conversation(turns, _lines(turns))


def nemotron_post_training_v1(row: Row) -> Conversation:
    """nvidia/Nemotron-Post-Training-Dataset-v1: `messages` with `tool_calls`, tools in `metadata` (JSON)."""
    turns = _turns(row, "messages", "role", "content")
    for turn, given in zip(turns, row["messages"], strict=True):
        if given.get("tool_calls"):
            turn["tool_calls"] = [_call(call) for call in _typed(given, "tool_calls", list)]
    declared = _json(row.get("metadata") or "{}", "metadata").get("tools") or []
    return _conversation(turns, _lines(turns), [_tool(tool) for tool in declared])


def llama_nemotron(row: Row) -> Conversation:
    """nvidia/Llama-Nemotron-Post-Training-Dataset: `system_prompt`, `input` messages, their `output`.

    The system prompt switches the reasoning on and off. ModelOpt's plain text leaves it out.
    """
    turns = llama_nemotron_turns(row)
    system = _text(row, "system_prompt") if row.get("system_prompt") else ""
    said = [{"role": "system", "content": system}] if system else []
    return Conversation((*said, *turns.messages), turns.text)


def llama_nemotron_turns(row: Row) -> Conversation:
    """The same columns without the system prompt: what ModelOpt reads of them."""
    output = _text(row, "output")
    if isinstance(row.get("input"), str):
        asked: list[Message] = [{"role": "user", "content": row["input"]}]
    else:
        asked = _turns(row, "input", "role", "content")
    return _conversation([*asked, {"role": "assistant", "content": output}], f"{_lines(asked)}\n{output}")


def cnn_dailymail(row: Row) -> Conversation:
    """abisee/cnn_dailymail: the `article` without its highlights, for recipes without a chat template."""
    return _plain(row, "article")


def text(row: Row) -> Conversation:
    """Plain text in `text`, for recipes without a chat template."""
    return _plain(row, "text")


ADAPTERS: dict[str, Callable[[Row], Conversation]] = {
    function.__name__: function
    for function in (
        open_code_reasoning,
        open_math_reasoning,
        magpie_pro_mt,
        nemotron_post_training_v2,
        nemotron_post_training_v1,
        llama_nemotron,
        llama_nemotron_turns,
        cnn_dailymail,
        text,
    )
}


def _asked_and_answered(row: Row, question: str, answer: str) -> Conversation:
    asked, answered = _text(row, question), _text(row, answer)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return _conversation(turns, f"{asked}\n{answered}")


def _plain(row: Row, column: str) -> Conversation:
    said = _text(row, column)
    return _conversation([{"role": "user", "content": said}], said)


def _conversation(turns: list[Message], plain: str, tools: Iterable[Any] = ()) -> Conversation:
    if not any(turn["content"].strip() or "tool_calls" in turn for turn in turns):
        raise OtherShape("not a word in it")
    return Conversation(tuple(turns), plain, tuple(tools))


def _turns(
    row: Row, column: str, role: str, content: str, roles: dict[str, str] = _AS_THEY_ARE
) -> list[Message]:
    turns: list[Message] = []
    for turn in _typed(row, column, list):
        if _text(_record(turn, f"a turn of {column}"), role) not in roles:
            raise OtherShape(f"a turn of {column} has an unknown {role}")
        only_calls = turn.get("tool_calls") and turn.get(content) is None
        turns.append({"role": roles[turn[role]], "content": "" if only_calls else _text(turn, content)})
    return turns


def _lines(turns: list[Message]) -> str:
    return "\n".join(turn["content"] for turn in turns)


def _text(row: Row, column: str) -> str:
    return str(_typed(row, column, str))


def _typed(row: Row, column: str, kind: type) -> Any:
    if column not in row:
        raise OtherShape(f"no {column}")
    if not isinstance(row[column], kind):
        raise OtherShape(f"{column} is not {_KINDS[kind]}")
    return row[column]


def _call(call: Any) -> dict[str, Any]:
    """A call of a function as chat templates take it, its arguments a record and not the JSON of one."""
    function = _typed(_record(call, "a tool call"), "function", dict)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = _json(arguments, "arguments of a tool call")
    return {"type": "function", "function": {"name": _text(function, "name"), "arguments": arguments}}


def _tool(tool: Any) -> dict[str, Any]:
    """A declared function as chat templates take it: inside a `function` record."""
    _record(tool, "a tool")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _json(written: Any, what: str) -> dict[str, Any]:
    try:
        return _record(json.loads(written), what)
    except (TypeError, json.JSONDecodeError):
        raise OtherShape(f"{what} is not JSON") from None


def _record(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OtherShape(f"{what} is no record")
    return value
