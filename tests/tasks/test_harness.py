"""What stands between the harness and a server, without the harness."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_server import MODEL, serving
from hostile_answers import WRONG

from proofcard.documents.tasks import Order, OrderedTask
from proofcard.serve.outcomes import OUTCOMES
from proofcard.tasks.harness import _ask, _reason, _until

TASK = OrderedTask(name="t", harness="t", metric="m", filter="none", path=None, max_tokens=64)
PROMPT = json.dumps([{"role": "user", "content": "7 × 8?"}])


def order(url: str, **said: Any) -> Order:
    usual: dict[str, Any] = {
        "url": url, "model": MODEL, "says_done": False, "thinks_first": False, "tasks": [TASK],
        "include": None, "sampling": {"temperature": 0.0}, "users": 1, "limit": None, "timeout_s": 5.0,
        "tries": 1, "fewshot_seed": 1, "offline": True, "rehearsal": False,
    }  # fmt: skip
    return Order(**usual | said)


@pytest.mark.parametrize(
    ("reply", "text", "how"),
    [
        ({"content": "56"}, "56", "answered"),
        ({"content": "<think>7 × 8</think>56"}, "56", "answered"),
        ({"content": "56", "reasoning_content": "7 × 8"}, "56", "answered"),
        ({"content": "56 is", "finish": "length"}, "56 is", "cut"),
        ({"content": "<think>56", "finish": "length"}, "", "thinking"),
        ({"content": "", "reasoning_content": "56", "finish": "length"}, "", "thinking"),
        ({"content": "56", "finish": "content_filter"}, "56", "ended"),
        ({"content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, "", "tool"),
        ({"content": "", "refusal": "no"}, "", "refused"),
        ({"status": 500}, "", "failed"),
    ],
)
def test_how_an_answer_ended_decides_what_is_judged(reply: dict[str, Any], text: str, how: str) -> None:
    with serving(lambda _: reply) as url:
        found = _ask(order(url), TASK, PROMPT)
    assert found[:2] == (text, how) and how in OUTCOMES


def test_an_answer_without_a_mark_of_a_model_that_thinks_first_is_thoughts() -> None:
    """Only where the stream's end is not marked; a single object is whole."""
    with serving(lambda _: {"content": "56"}) as url:
        assert _ask(order(url, thinks_first=True), TASK, PROMPT)[1] == "answered"


def test_a_request_that_failed_for_the_moment_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofcard.tasks.harness._PAUSE_S", 0.0)
    replies = iter([{"status": 503}, {"status": 429}, {"content": "56"}])
    with serving(lambda _: next(replies)) as url:
        assert _ask(order(url, tries=3), TASK, PROMPT)[:2] == ("56", "answered")
    with serving(lambda _: {"status": 400}) as url:
        assert _ask(order(url, tries=3), TASK, PROMPT)[1] == "failed"


def test_the_request_says_what_was_configured() -> None:
    seen: list[dict[str, Any]] = []
    with serving(lambda asked: seen.append(asked) or {"content": "56"}) as url:
        _ask(order(url, sampling={"temperature": 0.5, "seed": 9}), TASK, PROMPT)
    assert seen[0] == {
        "model": MODEL, "messages": json.loads(PROMPT), "stream": True, "max_tokens": 64,
        "temperature": 0.5, "seed": 9,
    }  # fmt: skip


def test_a_stop_mark_ends_the_answer() -> None:
    assert _until("56\nQuestion: 8?", ["Question:", "</s>"]) == "56\n"
    assert _until("56", []) == _until("56", "") == "56"


def test_hostile_answers_are_counted_as_something() -> None:
    assert {"thoughts, cut", "a refusal"} <= WRONG.keys()  # tests/serve holds them to the same client


def test_an_order_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extra"):
        Order.model_validate_json(json.dumps({"anything": 1}))


@pytest.mark.parametrize(
    ("error", "offline", "sentence"),
    [
        (
            ConnectionError("no"),
            True,
            "task t: its dataset is not on this machine (no): set tasks.tasks.t.path",
        ),
        (
            ConnectionError("no"),
            False,
            "task t: its dataset cannot be fetched (no): check the network, HF_END",
        ),
        (
            ModuleNotFoundError("no", name="langdetect"),
            False,
            "task t needs langdetect, which the harness does",
        ),
        (ValueError("no"), False, "task t cannot be run: ValueError: no"),
    ],
)
def test_what_a_task_lacks_is_said_with_how_to_get_it(error: Exception, offline: bool, sentence: str) -> None:
    assert _reason(TASK, error, offline).startswith(sentence)
