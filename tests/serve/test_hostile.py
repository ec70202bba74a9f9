"""Servers that send anything: each reply ends in a sentence or a verdict, in time and in little memory."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile import BODY, HTTP, MODELS, NAMES, Server, Speech, delta, of_json, serving, streamed
from hostile_answers import GOOD, ODD, STREAMS, WRONG
from running import ROOT

from proofcard.benchmark import answer_length, measure
from proofcard.config import compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.config.serving import Question, Truth
from proofcard.errors import Usage
from proofcard.screen import on_one_line
from proofcard.serve import client
from proofcard.serve.client import NoAnswer
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.truth import ask

TIME = 0.6  # seconds that a server has
LATE = 8.0  # beyond that, which no case may take on however busy a machine
MEMORY = 400 << 20
QUESTION = Question(prompt="What is 7 times 8?", contains="56")

BODY_BUT_AN_ERROR = {name: speech for name, speech in BODY.items() if name != "an error"}  # an object too

Case = Callable[[Server, str], str | None]
"""Asks a server for a case; returns what is wrong with how it ended, if anything is."""


def table(check: Case, *groups: dict[str, Speech]) -> None:
    """Every case, several at a time; each within its time, all of them within the memory."""
    cases = [case for group in groups for case in group.items()]
    numbered = {str(place): name for place, (name, _) in enumerate(cases)}
    with serving({str(place): speech for place, (_, speech) in enumerate(cases)}) as server:

        def one(place: str) -> str | None:
            begun = time.monotonic()
            try:
                wrong = check(server, place)
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            took = time.monotonic() - begun
            wrong = wrong or (f"took {took:.1f} s" if took > TIME + LATE else None)
            return f"{numbered[place]}: {wrong}" if wrong else None

        with Memory() as memory, ThreadPoolExecutor(12) as pool:
            wrong = [said for said in pool.map(one, numbered) if said]
    assert wrong == []
    assert memory.grown < MEMORY


class Memory:
    """How much more than at the beginning this process has held."""

    def __enter__(self) -> "Memory":
        self.grown, self._end = 0, threading.Event()
        self._before = psutil.Process().memory_info().rss
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._end.wait(0.05):
            self.grown = max(self.grown, psutil.Process().memory_info().rss - self._before)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def sentence(text: str) -> str | None:
    """What keeps it from being one clear line."""
    return None if text == on_one_line(text) and 8 < len(text) < 600 else f"says {text!r}"


def refused(error: type[Exception], work: Callable[[], Any]) -> str | None:
    try:
        return f"gave {work()!r}"
    except error as said:
        return sentence(str(said))


def endpoint(url: str, engine: str = "", tokenizer: Path = ROOT / "demo/model") -> Endpoint:
    return Endpoint(url, "m", None, tokenizer, engine, 0, Path("/dev/null"))


def test_health():
    def check(server: Server, case: str) -> str | None:
        return "healthy" if client.healthy(server.url(case), TIME) else None

    table(check, HTTP)


def test_health_looks_at_no_body():
    names = ("without end", "byte by byte", "stops within", "nothing", "not UTF-8", "an error")
    with serving({str(place): BODY[name] for place, name in enumerate(names)}) as server:
        assert all(client.healthy(server.url(str(place)), 5) for place in range(len(names)))


def test_server_info():
    def check(server: Server, case: str) -> str | None:
        url = server.url(case).removesuffix("/v1") + "/server_info"
        return refused(NoAnswer, partial(client.look, url, None, TIME))

    table(check, HTTP, BODY_BUT_AN_ERROR)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "first_model", partial(client.first_model, timeout_s=TIME))
    monkeypatch.setattr(answer_length, "_TIMEOUT_S", TIME)


def resolved(url: str) -> str | None:
    words = [f"endpoint={url}", f"tokenizer={ROOT / 'demo/model'}", "tracking=off"]
    return measure.resolved(compose(BenchmarkConfig, "benchmark", words)).model


@pytest.fixture(scope="module")
def config() -> BenchmarkConfig:
    words = ["endpoint=http://127.0.0.1:1/v1", f"tokenizer={ROOT / 'demo/model'}", "tracking=off"]
    return compose(BenchmarkConfig, "benchmark", words)


def test_models_as_benchmark_looks_for_them(quick: None, config: BenchmarkConfig):
    names = {f"named {what}": of_json({"data": [{"id": name}]}) for what, name in NAMES.items()}

    def check(server: Server, case: str) -> str | None:
        asked = config.model_copy(update={"endpoint": server.url(case)})
        return refused(Usage, partial(measure.resolved, asked))

    table(check, HTTP, BODY, MODELS, names)


def test_a_name_with_markup_and_slashes_is_a_name(quick: None, config: BenchmarkConfig):
    name = "../[bold]meta-llama/Llama [/INST]"
    with serving({"a": of_json({"data": [{"id": name}]})}) as server:
        found = measure.resolved(config.model_copy(update={"endpoint": server.url("a")}))
    assert found.model == name
    assert measure.name_of(found) == "bold-meta-llama-Llama-INST.demo"
    long = measure.name_of(found.model_copy(update={"model": "m" * 3000}))
    assert re.fullmatch(r"m{80}-[0-9a-f]{8}\.demo", long)
    assert re.fullmatch(r"[0-9a-f]{8}\.demo", measure.name_of(found.model_copy(update={"model": "../.."})))


def asked(url: str, **changed: Any) -> ask.Verdict:
    truth = Truth(
        name="x",
        questions={},
        known_answers=None,
        at_least=1,
        required=True,
        max_tokens=64,
        sandbox="strict",
        timeout_s=TIME,
    )
    return ask._verdict(endpoint(url, **changed), truth, "question", QUESTION)


def test_answers_that_are_none(quick: None):
    def check(server: Server, case: str) -> str | None:
        verdict = asked(server.url(case))
        return f"right: {verdict.answer!r}" if verdict.right else sentence(verdict.why)

    table(check, HTTP, BODY, STREAMS)


def test_answers_that_are_none_as_benchmark_asks_for_them(quick: None):
    def check(server: Server, case: str) -> str | None:
        return refused(Usage, lambda: answer_length.dialect_of(endpoint(server.url(case)), 0.0, 16))

    table(check, HTTP, BODY, STREAMS)


def test_odd_answers_that_are_right():
    def check(server: Server, case: str) -> str | None:
        verdict = asked(server.url(case))
        return None if verdict.right else verdict.why

    table(check, ODD)


def test_whole_answers_that_are_not_right():
    def check(server: Server, case: str) -> str | None:
        verdict = asked(server.url(case))
        said = list(WRONG.values())[int(case)][1]
        return None if not verdict.right and re.search(said, verdict.why) else f"{verdict}"

    table(check, {name: speech for name, (speech, _) in WRONG.items()})


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_an_engine_that_always_says_done_has_not_ended_without(engine: str):
    with serving({"a": streamed(*GOOD, done=False), "b": streamed(*GOOD)}) as server:
        verdict = asked(server.url("a"), engine=engine)
        assert not verdict.right and "without [DONE]" in verdict.why
        assert asked(server.url("b"), engine=engine).right
        assert asked(server.url("a"), engine="transformers").right


def test_a_model_that_begins_with_thoughts_has_to_end_them_where_stop_is_said_of_everything(tmp_path: Path):
    """As `transformers serve` answers for MiniMax-M2 when max_tokens is too small."""
    (tmp_path / "chat_template.jinja").write_text("{% if add_generation_prompt %}<think>\n{% endif %}")
    cut, ended = delta("It may be 56, let me"), delta("It may be 57.</think>56")
    with serving(
        {"a": streamed(cut, GOOD[-1], done=False), "b": streamed(ended, GOOD[-1], done=False)}
    ) as server:
        verdict = asked(server.url("a"), engine="transformers", tokenizer=tmp_path)
        assert verdict.why == "cut while thinking after 64 tokens: raise truth.max_tokens"
        assert asked(server.url("b"), engine="transformers", tokenizer=tmp_path).right


def test_an_answer_that_takes_forever_to_match_is_not_right(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ask, "_MATCHING_S", 0.2)
    question = Question(prompt="25 × 37?", matches=r"(?s)(.*\n)?\W*925\W*")
    right, why = ask.judge(question, "925\n" * 100_000 + "x")
    assert not right and why.endswith("which could not be matched within 0.2 s")
    assert ask.judge(question, "1000 − 75\n**925**")[0]


def test_no_redirect_is_followed_and_the_key_goes_nowhere_else():
    moved = HTTP["301 elsewhere"]
    with serving({"moved": moved, "elsewhere": moved}) as server:
        with pytest.raises(NoAnswer, match="HTTP 301: it redirects to /elsewhere/v1, which is not followed"):
            client.look(server.url("moved"), "key", 5)
        assert server.visited == ["moved"]


def test_the_number_of_cases_is_no_less_than_was_promised():
    http, body, streams = len(HTTP), len(BODY), len(STREAMS)
    refused = {
        "/health": http,
        "/server_info": http + len(BODY_BUT_AN_ERROR),
        "/v1/models": http + body + len(MODELS) + len(NAMES),
        "/v1/chat/completions, a known answer": http + body + streams,
        "/v1/chat/completions, of benchmark": http + body + streams,
    }
    assert sum(refused.values()) >= 172
    assert http + body + streams + len(MODELS) + len(NAMES) + len(WRONG) >= 172  # shapes, each counted once
    print(refused, len(WRONG), "judged wrong,", len(ODD), "right")
