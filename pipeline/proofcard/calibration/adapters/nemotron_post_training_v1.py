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
    """Read a row with these columns; raises UnreadableRow for any other."""
    turns = turns_of(row, "messages", "role", "content")
    for turn, given in zip(turns, row["messages"], strict=True):
        if given.get("tool_calls"):
            turn["tool_calls"] = [_call(call) for call in typed(given, "tool_calls", list)]
    declared = json_of(row.get("metadata") or "{}", "metadata").get("tools") or []
    return conversation(turns, lines(turns), [_tool(tool) for tool in declared])


def _call(call: Any) -> dict[str, Any]:
    """A function call as chat templates expect it, with arguments as a record instead of JSON text."""
    function = typed(record_of(call, "a tool call"), "function", dict)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = json_of(arguments, "arguments of a tool call")
    return {"type": "function", "function": {"name": text_of(function, "name"), "arguments": arguments}}


def _tool(tool: Any) -> dict[str, Any]:
    """A declared function as chat templates expect it: inside a `function` record."""
    record_of(tool, "a tool")
    return tool if "function" in tool else {"type": "function", "function": tool}
