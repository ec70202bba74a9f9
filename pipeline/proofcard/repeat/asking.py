"""Sending the request: alone, then while other requests keep the server busy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from proofcard.config.repeat import Repeat
from proofcard.errors import Stop
from proofcard.progress import Bar
from proofcard.serve import client
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.wire import NoAnswer

_LOST = 5  # failures one after the other: the server is gone


@dataclass
class Answers:
    """The answers of one phase in the order they came, thoughts first, and why others did not come."""

    texts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def alone(endpoint: Endpoint, asked: Repeat) -> Answers:
    """The request, one time after the other. Raises Stop when the server does not answer any more."""
    return _probe(endpoint, asked, "alone")


def loaded(endpoint: Endpoint, asked: Repeat) -> Answers:
    """The same among others, whose answers nobody looks at. Raises as `alone` does."""
    with _busy(endpoint, asked):
        return _probe(endpoint, asked, "under load")


def request(endpoint: Endpoint, asked: Repeat, prompt: str, max_tokens: int) -> dict[str, Any]:
    """The body of a greedy request."""
    return {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
    }


def _probe(endpoint: Endpoint, asked: Repeat, title: str) -> Answers:
    answers, lost = Answers(), 0
    with Bar(title, asked.times, "answers") as bar:
        for _ in range(asked.times):
            try:
                answers.texts.append(_ask(endpoint, asked, asked.prompt, asked.max_tokens))
                lost = 0
            except NoAnswer as error:
                answers.failures.append(str(error))
                lost += 1
            if lost == _LOST:
                raise Stop(
                    f"{_LOST} requests failed one after the other, the last with: {answers.failures[-1]}"
                )
            bar.advance()
    return answers


def _ask(endpoint: Endpoint, asked: Repeat, prompt: str, max_tokens: int) -> str:
    body = request(endpoint, asked, prompt, max_tokens)
    answer = client.complete(
        endpoint.url, endpoint.api_key, body, max_tokens, asked.timeout_s, endpoint.says_done
    )
    calls = "".join(f"\n{each.name}{each.arguments}" for each in answer.tool_calls)
    return answer.thoughts + answer.text + calls


@contextmanager
def _busy(endpoint: Endpoint, asked: Repeat) -> Iterator[None]:
    """A context in which `users` − 1 other requests are under way at any time, no two of them alike."""
    over = threading.Event()

    def user(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            tokens = 1 + (37 * turn + 11 * number) % asked.max_tokens  # so that batches come and go
            prompt = (
                f"{asked.prompt} ({number}.{turn})" if turn % 2 else f"{number}.{turn}: count to {turn + 9}."
            )
            try:
                _ask(endpoint, asked, prompt, tokens)
            except NoAnswer:  # what the probe does not notice is of no interest
                over.wait(0.5)

    users = [threading.Thread(target=user, args=(n,), daemon=True) for n in range(1, asked.users)]
    for each in users:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in users:
            each.join(asked.timeout_s)
