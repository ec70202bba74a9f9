"""Calls of tools in an answer: whole, in pieces, and of every wrong shape."""

import json
from typing import Any

import pytest

from proofcard.serve.answers import Answer, single, streamed
from proofcard.serve.replies import Event
from proofcard.serve.tool_calls import ToolCall
from proofcard.serve.wire import NoAnswer


def whole(calls: Any, tokens: int = 64) -> Answer:
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return single(json.dumps({"choices": [choice]}).encode(), tokens)


def pieces(*deltas: Any) -> Answer:
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"tool_calls": each}} for each in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    events = [Event("", json.dumps({"choices": [each]})) for each in choices]
    return streamed([*events, Event("", "[DONE]")], 64, True, True)


def function(name: Any, arguments: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def test_calls_of_one_object() -> None:
    found = whole([{"id": "a", **function("f", '{"x": 1}')}, {"id": "b", **function("g", {"y": 2})}])
    assert found.tool_calls == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", '{"y": 2}'))
    assert found.calls_tools and not found.text


def test_calls_in_pieces_are_put_together_by_their_number() -> None:
    found = pieces(
        [{"index": 0, "id": "a", "type": "function", **function("f", "")}],
        [{"index": 0, **function(None, '{"x"')}],
        [{"index": 1, "id": "b", **function("g", "{}")}],
        [{"index": 0, **function("", ": 1}")}],
    )
    assert found.tool_calls == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))


def test_a_name_that_is_repeated_with_every_piece_is_one_name() -> None:
    found = pieces([{"index": 0, **function("f", "{")}], [{"index": 0, **function("f", "}")}])
    assert found.tool_calls == (ToolCall("", "f", "{}"),)


def test_arguments_that_are_no_json_are_as_the_model_wrote_them() -> None:
    assert whole([function("f", "{'x': 1")]).tool_calls[0].arguments == "{'x': 1"


@pytest.mark.parametrize(
    "calls",
    [
        {"0": {}}, "f", 5, True, ["f"], [None], [[]], [{"function": "f"}], [{"function": ["f"]}],
        [function(5, "{}")], [function("f", 5)], [function("f", ["{}"])], [{"id": 5, **function("f", "{}")}],
        [{"index": "0", **function("f", "{}")}], [{"index": -1, **function("f", "{}")}],
        [{"index": 10**9, **function("f", "{}")}], [{"index": True, **function("f", "{}")}],
        [function("f", "{}")] * 129, [function("f" * 300, "{}")], [{"id": "a" * 300, **function("f", "{}")}],
    ],
)  # fmt: skip
def test_what_is_no_list_of_calls_is_no_answer(calls: Any) -> None:
    with pytest.raises(NoAnswer):
        whole(calls)


def test_arguments_count_as_text_of_the_answer() -> None:
    with pytest.raises(NoAnswer, match="more text than the tokens"):
        whole([function("f", "x" * 30_000)], tokens=8)
