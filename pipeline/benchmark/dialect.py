"""How a server must be asked for answers of a given length, found by asking it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import Usage
from pipeline.serve.endpoint import Endpoint

_TOKENS = 8
_TIMEOUT_S = 120.0
# No proxy of the environment: the server is this machine's, or named on purpose.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Dialect:
    """How a server is told to answer at full length, and whether it counts the tokens of a stream itself."""

    name: str
    extra: dict[str, Any]
    length: str
    usage: bool


def model_of(url: str, api_key: str | None) -> str:
    """The first model that a server names.

    Raises:
        Usage: when it does not answer, or names none.
    """
    try:
        with _OPENER.open(_request(f"{url}/models", api_key, None), timeout=_TIMEOUT_S) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = getattr(error, "reason", error)
        raise Usage(f"{url}/models names no model ({why}): is the server up? Or give model=NAME") from None


def dialect_of(target: Endpoint, temperature: float, output_tokens: int) -> Dialect:
    """Found by asking for a few tokens: as SGLang and vLLM understand it, then as `transformers serve` does.

    Raises:
        Usage: when the server understands neither.
    """
    refusals = []
    for dialect in (_engines(temperature), _transformers(temperature, output_tokens)):
        small = _transformers(temperature, _TOKENS).extra if dialect.length == "max_tokens" else dialect.extra
        try:
            usage = [event["usage"] for event in _stream(target, dialect, small) if event.get("usage")]
        except urllib.error.HTTPError as error:
            refusals.append(
                f"HTTP {error.code}: {' '.join(error.read(300).decode(errors='replace').split())}"
            )
            continue
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            raise Usage(f"{target.url} does not answer ({why}): is the server up?") from None
        return Dialect(dialect.name, dialect.extra, dialect.length, bool(usage))
    raise Usage(f"{target.url} does not take a request for {target.model}: {refusals[0]}")


def _engines(temperature: float) -> Dialect:
    extra = {"temperature": temperature, "ignore_eos": True}
    return Dialect("ignore_eos", extra, "max_completion_tokens", True)


def _transformers(temperature: float, tokens: int) -> Dialect:
    """It refuses what it does not know, `ignore_eos` too; its own field carries a whole generation config."""
    exactly: dict[str, Any] = {
        "max_new_tokens": tokens,
        "min_new_tokens": tokens,
        "do_sample": temperature > 0,
    }
    if temperature > 0:
        exactly["temperature"] = temperature
    return Dialect("generation_config", {"generation_config": json.dumps(exactly)}, "max_tokens", False)


def _stream(target: Endpoint, dialect: Dialect, extra: dict[str, Any]) -> Iterator[dict[str, Any]]:
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": "Count to ten."}],
        "stream": True,
        dialect.length: _TOKENS,
        **extra,
    }
    if dialect.usage:
        body["stream_options"] = {"include_usage": True}
    request = _request(f"{target.url}/chat/completions", target.api_key, body)
    with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
        for line in answer:
            text = line.decode().strip()
            if text.startswith("data:") and (data := text.removeprefix("data:").strip()) != "[DONE]":
                yield json.loads(data)


def _request(url: str, api_key: str | None, body: dict[str, Any] | None) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers)
