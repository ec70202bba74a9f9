"""Parsing of replies: whatever the bytes, an answer or NoAnswer; however they are cut, the same one."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofcard.serve import answers, reasoning
from proofcard.serve.replies import Event, events, json_object, json_value
from proofcard.serve.wire import NoAnswer

fuzzed = settings(max_examples=300, database=None)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
text = st.sampled_from(
    ["", "56", "<think>", "</think>", "[/INST]", "<|channel|>", "final", "\x1b[2J", "a" * 99]
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": text | values,
        "reasoning_content": text | values,
        "refusal": st.none() | text | values,
        "tool_calls": values,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, None, 1, True]),
        "delta": deltas | values,
        "message": deltas | values,
        "finish_reason": st.sampled_from([None, "stop", "length", 7, "x"]),
    },
)
said = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(choices | values, max_size=2) | values,
        "usage": st.fixed_dictionaries({"completion_tokens": scalars}) | values,
        "error": st.none() | values,
        "object": text,
    },
)
lines = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"data: ", b"data:", b"event: error", b": c", b"[DONE]", b"\xff"]
)


def whole(pieces: list[bytes]) -> Any:
    try:
        return answers.streamed(events(pieces), 64, framed=True, must_say_done=False)
    except NoAnswer as error:
        return str(error)


@fuzzed
@given(st.lists(lines | st.binary(max_size=12) | said.map(lambda s: json.dumps(s).encode()), max_size=24))
def test_any_bytes_of_a_stream_give_an_answer_or_no_answer(pieces: list[bytes]):
    whole(pieces)


@fuzzed
@given(st.lists(said, max_size=4), st.booleans())
def test_any_objects_in_a_stream_give_an_answer_or_no_answer(objects: list[Any], done: bool):
    sent = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in objects]
    found = whole(sent + [b"data: [DONE]\n\n"] * done)
    if isinstance(found, answers.Answer):
        assert found.finish and found.text == found.text.strip()
        assert not (found.thinking and found.text)


@fuzzed
@given(st.binary(max_size=200) | said.map(lambda s: json.dumps(s).encode()))
def test_any_single_object_gives_an_answer_or_no_answer(data: bytes):
    with contextlib.suppress(NoAnswer):
        answers.single(data, 64)


@fuzzed
@given(st.lists(lines | st.binary(max_size=6), max_size=16).map(b"".join), st.data())
def test_a_stream_means_the_same_however_it_is_cut(stream: bytes, data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    def read(pieces: list[bytes]) -> list[Event] | str:
        try:
            return list(events(pieces))
        except NoAnswer as error:
            return str(error)

    assert read(pieces) == read([stream]) == read([stream[n : n + 1] for n in range(len(stream))])


@fuzzed
@given(values)
def test_json_is_read_as_it_was_meant_or_not_at_all(value: Any):
    try:
        found = json_value(json.dumps(value))
    except NoAnswer:
        with pytest.raises(ValueError):
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    else:
        assert found == value


@fuzzed
@given(st.lists(text | st.text(max_size=5) | st.sampled_from(["analysis", "assistantfinal", "<|message|>"])))
def test_thoughts_are_never_an_answer(words: list[str]):
    found = reasoning.parts("".join(words))
    assert found.answer == found.answer.strip()
    assert not (found.open and found.answer)
    assert "<think>" not in found.answer and "</think>" not in found.answer


PARTS = {
    "56": ("56", False),
    "<think>7</think>\n56": ("56", False),
    "7</think>56": ("56", False),
    "<think>7</think>56<think>8": ("", True),
    "Well. <think>56": ("", True),
    "<thinking>56": ("", True),
    "<thinking>7</thinking> 56": ("56", False),
    "[THINK]7[/THINK]56": ("56", False),
    "[THINK]56": ("", True),
    "◁think▷7◁/think▷56": ("56", False),
    "<seed:think>56": ("", True),
    "<reasoning>7</reasoning>56": ("56", False),
    "<|begin_of_thought|>56": ("", True),
    "<|channel|>analysis<|message|>56<|end|>": ("", True),
    "<|channel|>analysis<|message|>7<|end|><|channel|>final<|message|>56<|return|>": ("56", False),
    "<|channel|>final<|message|><think>56": ("", True),
    "<|channel|>final <|constrain|>json<|message|>56": ("56", False),
    "<|channel|>commentary to=functions.f<|message|>56": ("", True),
    "analysisWe need 7×8=56": ("", True),
    "analysisWe need 7×8assistantfinal56": ("56", False),
    "analysis of the case: 56": ("analysis of the case: 56", False),
    "<|channel>thought\n56": ("", True),
    "<|channel>thought\n7<channel|>56": ("56", False),
    "<THINK>56": ("", True),
}  # fmt: skip


@pytest.mark.parametrize("said", PARTS)
def test_thoughts_by_their_marks(said: str):
    found = reasoning.parts(said)
    assert (found.answer, found.open) == PARTS[said]


TEMPLATES = {
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}": True,
    "{% if add_generation_prompt %}{{- ']~b]ai' ~ '\n' ~ '<think>' ~ '\n' }}{% endif %}": True,
    "{% if add_generation_prompt %}<|assistant|>{% endif %}": False,
    "<think>{{ reasoning }}</think>{% if add_generation_prompt %}<|assistant|>{% endif %}": False,
    "{% if add_generation_prompt %}{% if enable %}{% else %}<think>\n\n</think>{% endif %}{% endif %}": False,
    "<think>": False,
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_that_begins_an_answer_within_thoughts(tmp_path, template: str):
    (tmp_path / "chat_template.jinja").write_text(template)
    assert reasoning.template_opens(tmp_path) == TEMPLATES[template]
    assert not reasoning.template_opens(None)


def test_what_is_not_an_object_is_named():
    with pytest.raises(NoAnswer, match="its reply is a list, not a JSON object"):
        json_object(b"[]")


def test_a_wide_reply_is_read_quickly_and_a_deep_one_not_at_all():
    assert len(json_value(b"[" + b"0," * 500_000 + b"0]")) == 500_001
    with pytest.raises(NoAnswer, match="nested deeper than 64 levels"):
        json_value(b"[" * 65 + b"1" + b"]" * 65)
    assert json_value(b"[" * 63 + b"]" * 63)
