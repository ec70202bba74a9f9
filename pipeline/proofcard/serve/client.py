"""Asking an OpenAI-compatible server, with nothing but the standard library."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

# No proxy of the environment: the server is this machine's, or named on purpose.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NoAnswer(Exception):
    """The server has not answered; the message says how. `status` is its HTTP status if it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def healthy(url: str, timeout_s: float = 2.0) -> bool:
    """Whether `/health` beside a `…/v1` address answers 200."""
    try:
        with _OPENER.open(url.removesuffix("/v1") + "/health", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def look(url: str, api_key: str | None, timeout_s: float = 30.0) -> dict[str, Any]:
    """The JSON object at an address. Raises NoAnswer when there is none."""
    try:
        with _OPENER.open(_request(url, api_key, None), timeout=timeout_s) as answer:
            told = json.load(answer)
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{url}: {error}") from None
    return told if isinstance(told, dict) else {}


def ask(
    url: str,
    model: str,
    api_key: str | None,
    messages: list[dict[str, str]],
    max_tokens: int,
    timeout_s: float,
) -> str:
    """The greedy answer of `…/v1/chat/completions` to a conversation; what was thought aloud is left out.

    Raises:
        NoAnswer: for an HTTP error, a broken stream, or one that takes longer than `timeout_s` seconds.
    """
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    end = time.monotonic() + timeout_s
    said: list[str] = []
    for event in stream(url, api_key, body, timeout_s):
        for choice in event.get("choices", []):
            said.append(choice.get("delta", {}).get("content") or "")
        if time.monotonic() > end:
            raise NoAnswer(f"no whole answer within {timeout_s:.0f} s")
    return "".join(said).rpartition("</think>")[2].strip()


def stream(url: str, api_key: str | None, body: dict[str, Any], timeout_s: float) -> Iterator[dict[str, Any]]:
    """The events of an answer of `…/v1/chat/completions` as they come, at most `timeout_s` apart.

    Raises:
        NoAnswer: for an HTTP error, or a stream that breaks or stops.
    """
    try:
        with _OPENER.open(_request(f"{url}/chat/completions", api_key, body), timeout=timeout_s) as answer:
            for event in _events(answer):
                if "error" in event:
                    raise NoAnswer(f"the server broke off: {event['error']}")
                yield event
    except urllib.error.HTTPError as error:
        detail = " ".join(error.read(300).decode(errors="replace").split())
        raise NoAnswer(f"HTTP {error.code}: {detail}", error.code) from None
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout_s:.0f} s") from None
    except (OSError, ValueError) as error:
        raise NoAnswer(f"the connection failed: {error}") from None


def first_model(url: str, api_key: str | None, timeout_s: float = 60.0) -> str:
    """The first model that `…/v1/models` names.

    Raises:
        NoAnswer: when there is no answer, or no model in it.
    """
    try:
        with _OPENER.open(_request(f"{url}/models", api_key, None), timeout=timeout_s) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except OSError as error:
        raise NoAnswer(str(getattr(error, "reason", error))) from None
    except (ValueError, LookupError, TypeError):
        raise NoAnswer("its answer has no list of models") from None


def _request(url: str, api_key: str | None, body: dict[str, Any] | None) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers)


def _events(answer: Any) -> Iterator[dict[str, Any]]:
    """The JSON values of a stream of server-sent events."""
    for line in answer:
        text = line.decode().strip()
        if text.startswith("data:") and (data := text.removeprefix("data:").strip()) != "[DONE]":
            yield json.loads(data)
