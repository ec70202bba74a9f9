"""A client for OpenAI-compatible servers: every request ends in an answer or in NoAnswer, in time."""

import json
from typing import Any
from urllib.parse import urlsplit

from proofcard.screen import quoted
from proofcard.serve import answers
from proofcard.serve.answers import Answer
from proofcard.serve.replies import events, json_object, kind_of
from proofcard.serve.wire import Limits, NoAnswer, NoConnection, exchange

__all__ = ["Answer", "NoAnswer", "ask", "complete", "first_model", "healthy", "look", "models", "no_model"]

_STREAM = "text/event-stream"
_JSON = "application/json"
_WIRE = (1 << 20, 8 << 10)  # limit of a stream in bytes: overall, plus per token's event
_LONGEST_NAME = 512  # characters


def healthy(url: str, timeout_s: float = 2.0) -> bool:
    """Whether `/health` next to a `…/v1` address answers 200; the body is ignored."""
    try:
        with exchange("GET", url.removesuffix("/v1") + "/health", None, None, Limits(timeout_s)):
            return True
    except NoAnswer:
        return False


def look(url: str, api_key: str | None, timeout_s: float = 30.0) -> dict[str, Any]:
    """The JSON object at a URL, of up to 4 MiB. Raises NoAnswer when there is none."""
    with exchange("GET", url, api_key, None, Limits(timeout_s)) as reply:
        if reply.content_type not in (_JSON, ""):
            raise NoAnswer(f"it answered with {quoted(reply.content_type, 40)} instead of JSON")
        return json_object(reply.read())


def models(url: str, api_key: str | None, timeout_s: float = 60.0) -> list[str]:
    """The names in `…/v1/models`, at least one.

    Raises:
        NoAnswer: when there is no answer, or it is not a list of models with names.
    """
    listed = look(f"{url}/models", api_key, timeout_s).get("data")
    if not isinstance(listed, list):
        raise NoAnswer(f"its answer has {kind_of(listed)} instead of a list of models")
    names = [model.get("id") if isinstance(model, dict) else None for model in listed]
    if not names:
        raise NoAnswer("its list of models is empty")
    usable = [name for name in names if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME]
    if len(usable) < len(names):
        raise NoAnswer("its list of models contains one without a valid name")
    return usable


def no_model(url: str, error: NoAnswer, setting: str = "") -> str:
    """Why a server does not say which model it has, and what to do; `setting` is what precedes `model=`."""
    if isinstance(error, NoConnection):
        return f"{url} cannot be reached ({error.args[0]}): start the server, or correct {setting}endpoint"
    return f"{url}/models names no model ({error}): give {setting}model=NAME"


def first_model(url: str, api_key: str | None, timeout_s: float = 60.0) -> str:
    """The first model in `…/v1/models`. Raises NoAnswer as `models`."""
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
    """The greedy answer of `…/v1/chat/completions` to a conversation, of at most `max_tokens` tokens.

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
    """The complete answer of `…/v1/chat/completions` to a request, streamed or in one piece.

    `max_tokens` is the limit in `body`. `must_say_done`: a stream without a final `[DONE]` counts as cut.

    Raises:
        NoAnswer: for an HTTP error, an invalid or incomplete reply, or one that takes longer
            than `timeout_s` seconds in total.
    """
    limits = Limits(timeout_s, _WIRE[0] + _WIRE[1] * max_tokens)
    content = json.dumps(body).encode()
    with exchange("POST", f"{url}/chat/completions", api_key, content, limits) as reply:
        if reply.content_type == _JSON:
            return answers.single(reply.read(), max_tokens)
        if reply.content_type not in (_STREAM, ""):
            raise NoAnswer(f"it answers with {quoted(reply.content_type, 40)} instead of an event stream")
        return answers.streamed(events(reply.body), max_tokens, reply.framed, must_say_done)


def check_address(url: str) -> None:
    """Raise ValueError, saying what is wrong, for a URL that requests cannot be sent to."""
    at = urlsplit(url)
    if at.hostname is None or at.port == 0:
        raise ValueError("it has no host or no port")
    if at.username is not None or at.query or at.fragment:
        raise ValueError("it must not contain a user, a query or a fragment")
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("it contains a space or another invalid character")
