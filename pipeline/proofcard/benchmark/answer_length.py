"""How a server must be asked for answers of a given length, found by asking it."""

import json
from dataclasses import dataclass
from typing import Any

from proofcard.errors import Usage
from proofcard.progress import console
from proofcard.serve import client
from proofcard.serve.endpoint import Endpoint

_TOKENS = 8
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Dialect:
    """How a server is told to answer at full length, and whether it counts the tokens of a stream itself.

    `length` is the field that bounds an answer, `extra` are the fields beside it.
    """

    name: str
    extra: dict[str, Any]
    length: str
    usage: bool


def dialect_of(target: Endpoint, temperature: float, output_tokens: int) -> Dialect:
    """Found by asking for a few tokens: as SGLang and vLLM understand it, then as `transformers serve` does.

    Raises:
        Usage: when the server understands neither.
    """
    refusals = []
    for kind in (_engines, _transformers):
        try:
            counted = _counted(target, kind(temperature, _TOKENS))
        except client.NoAnswer as error:
            refusals.append(str(error))
            if error.status is None:
                break
            continue
        asked = kind(temperature, output_tokens)
        return Dialect(asked.name, asked.extra, asked.length, counted)
    raise Usage(f"{target.url} does not take a request for {target.model}: {refusals[0]}")


def _engines(temperature: float, tokens: int) -> Dialect:
    extra = {"temperature": temperature, "ignore_eos": True}
    return Dialect("ignore_eos", extra, "max_completion_tokens", usage=True)


def _transformers(temperature: float, tokens: int) -> Dialect:
    """It refuses what it does not know, `ignore_eos` too; its own field carries a whole generation config."""
    exactly: dict[str, Any] = {
        "max_new_tokens": tokens,
        "min_new_tokens": tokens,
        "do_sample": temperature > 0,
    }
    if temperature > 0:
        exactly["temperature"] = temperature
    extra = {"generation_config": json.dumps(exactly)}
    return Dialect("generation_config", extra, "max_tokens", usage=False)


def _counted(target: Endpoint, dialect: Dialect) -> bool:
    """Whether the server reports, of a short answer, how many tokens it was: a number that can be true."""
    question = [{"role": "user", "content": "Count to ten."}]
    body = {"model": target.model, "messages": question, "stream": True, dialect.length: _TOKENS}
    if dialect.usage:
        body["stream_options"] = {"include_usage": True}
    body |= dialect.extra
    tokens = client.complete(target.url, target.api_key, body, _TOKENS, _TIMEOUT_S).tokens
    if tokens is not None and tokens > _TOKENS:
        console.print(
            f"{target.url} counts {tokens:,} tokens in an answer of {_TOKENS}: the tokenizer counts instead",
            soft_wrap=True,
        )
        return False
    return tokens is not None
