"""Asking an OpenAI-compatible server: what it replies ends in an answer or in NoAnswer, within its time."""

import json
from typing import Any
from urllib.parse import urlsplit

from proofcard.screen import quoted
from proofcard.serve import answers
from proofcard.serve.answers import Answer
from proofcard.serve.replies import events, json_object, kind_of
from proofcard.serve.wire import Limits, NoAnswer, exchange

__all__ = ["Answer", "NoAnswer", "ask", "complete", "first_model", "healthy", "look", "models"]

_STREAM = "text/event-stream"
_JSON = "application/json"
_WIRE = (1 << 20, 8 << 10)  # bytes of a stream: for itself, and for each token's event
_LONGEST_NAME = 512  # characters


def healthy(url: str, timeout_s: float = 2.0) -> bool:
    """Whether `/health` beside a `…/v1` address answers 200; nothing else of it is looked at."""
    try:
        with exchange("GET", url.removesuffix("/v1") + "/health", None, None, Limits(timeout_s)):
            return True
    except NoAnswer:
        return False


def look(url: str, api_key: str | None, timeout_s: float = 30.0) -> dict[str, Any]:
    """The JSON object at an address, of 4 MiB at most. Raises NoAnswer when there is none."""
    with exchange("GET", url, api_key, None, Limits(timeout_s)) as reply:
        if reply.content_type not in (_JSON, ""):
            raise NoAnswer(f"it answers with {quoted(reply.content_type, 40)}, not with JSON")
        return json_object(reply.read())


def models(url: str, api_key: str | None, timeout_s: float = 60.0) -> list[str]:
    """The names that `…/v1/models` gives, at least one.

    Raises:
        NoAnswer: when there is no answer, or another one than a list of models with names.
    """
    listed = look(f"{url}/models", api_key, timeout_s).get("data")
    if not isinstance(listed, list):
        raise NoAnswer(f"its answer has no list of models, but {kind_of(listed)}")
    names = [model.get("id") if isinstance(model, dict) else None for model in listed]
    if not names:
        raise NoAnswer("its list of models is empty")
    found = [name for name in names if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME]
    if len(found) < len(names):
        raise NoAnswer("its list of models holds one without a name")
    return found


def first_model(url: str, api_key: str | None, timeout_s: float = 60.0) -> str:
    """The first model that `…/v1/models` names. Raises NoAnswer as `models` does."""
    return models(url, api_key, timeout_s)[0]


def ask(
    url: str,
    model: str,
    api_key: str | None,
    messages: list[dict[str, str]],
    max_tokens: int,
    timeout_s: float,
    must_say_done: bool = False,
) -> Answer:
    """The greedy answer of `…/v1/chat/completions` to a conversation, of `max_tokens` tokens at most.

    Raises:
        NoAnswer: as `complete` does.
    """
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    return complete(url, api_key, body, max_tokens, timeout_s, must_say_done)


def complete(
    url: str,
    api_key: str | None,
    body: dict[str, Any],
    max_tokens: int,
    timeout_s: float,
    must_say_done: bool = False,
) -> Answer:
    """The whole answer of `…/v1/chat/completions` to a request, streamed or in one piece.

    `max_tokens` is what `body` asks for. `must_say_done`: a stream without `[DONE]` at its end is cut.

    Raises:
        NoAnswer: for an HTTP error, a reply that is not understood or not whole, or one that takes longer
            than `timeout_s` seconds from beginning to end.
    """
    limits = Limits(timeout_s, _WIRE[0] + _WIRE[1] * max_tokens)
    content = json.dumps(body).encode()
    with exchange("POST", f"{url}/chat/completions", api_key, content, limits) as reply:
        if reply.content_type == _JSON:
            return answers.single(reply.read(), max_tokens)
        if reply.content_type not in (_STREAM, ""):
            raise NoAnswer(f"it answers with {quoted(reply.content_type, 40)}, not with a stream of events")
        return answers.streamed(events(reply.body), max_tokens, reply.framed, must_say_done)


def check_address(url: str) -> None:
    """Raises ValueError, with what is wrong, for an address that no request can be sent to."""
    at = urlsplit(url)
    if at.hostname is None or at.port == 0:
        raise ValueError("it names no host or no port")
    if at.username is not None or at.query or at.fragment:
        raise ValueError("a user, a query or a fragment has no place in it")
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("it holds a space or a character that no address has")
