"""nvidia/Nemotron-Post-Training-Dataset-v1: `messages` with `tool_calls`, tools in `metadata` (JSON)."""

from typing import Any

from proofcard.calibration.rows import (
    Conversation,
    Row,
    conversation,
    json_of,
    lines,
    record_of,
    text_of,
    turns_of,
    typed,
)


def read(row: Row) -> Conversation:
    """As the dataset's columns are; raises OtherShape for others."""
    turns = turns_of(row, "messages", "role", "content")
    for turn, given in zip(turns, row["messages"], strict=True):
        if given.get("tool_calls"):
            turn["tool_calls"] = [_call(call) for call in typed(given, "tool_calls", list)]
    declared = json_of(row.get("metadata") or "{}", "metadata").get("tools") or []
    return conversation(turns, lines(turns), [_tool(tool) for tool in declared])


def _call(call: Any) -> dict[str, Any]:
    """A call of a function as chat templates take it, its arguments a record and not the JSON of one."""
    function = typed(record_of(call, "a tool call"), "function", dict)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = json_of(arguments, "arguments of a tool call")
    return {"type": "function", "function": {"name": text_of(function, "name"), "arguments": arguments}}


def _tool(tool: Any) -> dict[str, Any]:
    """A declared function as chat templates take it: inside a `function` record."""
    record_of(tool, "a tool")
    return tool if "function" in tool else {"type": "function", "function": tool}
