"""Assembles an answer of `…/v1/chat/completions` from a stream or a single object, with how it ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proofcard.screen import quoted
from proofcard.serve import reasoning
from proofcard.serve.replies import Event, json_object, kind_of
from proofcard.serve.tool_calls import Calls, ToolCall
from proofcard.serve.wire import NoAnswer

_DONE = "[DONE]"
_BY_ITSELF = (
    "stop",
    "eos",
    "eos_token",
    "end_turn",
    "stop_sequence",
)  # finish reasons of a model that stopped by itself
_AT_LENGTH = ("length", "max_tokens")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields in which servers return reasoning
_MOST_TOKENS = 10**9  # a larger count for one answer is ignored
_CHARACTERS = 256  # limit per token; the longest known tokens are runs of spaces


@dataclass(frozen=True)
class Answer:
    """One complete answer.

    `text` is what follows the reasoning; `thinking` means that it ended within the reasoning. `finish` is the
    server's finish_reason. `tokens` is how many the server says they were, if it says a possible number.
    `said_done`: the stream ended with `[DONE]`, as OpenAI's do.
    """

    text: str
    thoughts: str
    thinking: bool
    finish: str
    tokens: int | None
    said_done: bool
    refusal: str = ""
    calls_tools: bool = False
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def at_length(self) -> bool:
        """Whether it was cut at the token limit."""
        return self.finish in _AT_LENGTH

    @property
    def by_itself(self) -> bool:
        """Whether the model stopped by itself."""
        return self.finish in _BY_ITSELF


@dataclass
class _Parts:
    most: int  # characters
    text: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    finish: str | None = None
    tokens: int | None = None
    calls_tools: bool = False
    calls: Calls = field(default_factory=Calls)
    length: int = 0

    def add(self, choice: dict[str, Any], place: str) -> None:
        """Add a choice of an event or an object, whose message is under `place`."""
        if choice.get("index") not in (0, None) or isinstance(choice.get("index"), bool):
            raise NoAnswer("it returned several answers instead of one")
        message = choice.get(place)
        if message is None:
            message = {}
        if not isinstance(message, dict):
            raise NoAnswer(f"{place} of its answer is {kind_of(message)}, not an object")
        before = self.length
        self._take(message)
        finish = choice.get("finish_reason")
        if finish is not None and not isinstance(finish, str):
            raise NoAnswer(f"its finish_reason is {kind_of(finish)}, not a string")
        if self.finish is not None and (self.length > before or finish not in (None, self.finish)):
            raise NoAnswer("its answer continues after its finish_reason")
        self.finish = self.finish or finish or None

    def _take(self, message: dict[str, Any]) -> None:
        self._texts(message.get("content"), "content")
        for name in _THOUGHTS:
            if message.get(name):  # the same under two names: vLLM while it changes from one to the other
                self._append(self.thoughts, _string(message[name], name))
                break
        if message.get("refusal"):
            self._append(self.refusal, _string(message["refusal"], "refusal"))
        if message.get("tool_calls"):
            self.calls_tools = True
            self._grow(self.calls.add(message["tool_calls"]))
        if message.get("function_call"):
            self.calls_tools = True

    def _texts(self, content: Any, name: str) -> None:
        """A string, or OpenAI's list of parts, each an object with a type."""
        if content is None:
            return
        if isinstance(content, str):
            self._append(self.text, content)
            return
        if not isinstance(content, list):
            raise NoAnswer(f"{name} of its answer is {kind_of(content)}, not a string")
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "output_text"):
                self._append(self.text, _string(part.get("text"), "text"))
            elif kind in ("thinking", "reasoning"):
                reply = part.get("thinking", part.get("reasoning", part.get("text", "")))
                self._append(self.thoughts, reply if isinstance(reply, str) else "")
            elif kind == "refusal":
                self._append(self.refusal, _string(part.get("refusal"), "refusal"))
            else:
                raise NoAnswer(f"a part of its answer is not text ({quoted(str(kind), 40)})")

    def _append(self, where: list[str], text: str) -> None:
        self._grow(len(text))
        if text:
            where.append(text)

    def _grow(self, characters: int) -> None:
        self.length += characters
        if self.length > self.most:
            raise NoAnswer("its answer is longer than the requested number of tokens allows")

    def whole(self, said_done: bool) -> Answer:
        if self.finish is None:
            raise NoAnswer("its answer is incomplete: it has no finish_reason")
        collected = reasoning.parts("".join(self.text))
        beside = "".join(self.thoughts)
        return Answer(
            text=collected.answer,
            thoughts=beside + collected.thoughts,
            thinking=collected.open or (bool(beside.strip()) and not collected.answer),
            finish=self.finish,
            tokens=self.tokens,
            said_done=said_done,
            refusal="".join(self.refusal).strip(),
            calls_tools=self.calls_tools,
            tool_calls=self.calls.whole(),
        )


def streamed(events: Iterable[Event], max_tokens: int, framed: bool, must_say_done: bool) -> Answer:
    """The answer in a stream's events, up to `[DONE]` or the end of the stream.

    A stream whose end is marked by HTTP (`framed`) may omit `[DONE]`, as `transformers serve` does, unless
    `must_say_done`.

    Raises:
        NoAnswer: for an invalid event, an error event, or an incomplete answer.
    """
    collected = _Parts(most(max_tokens))
    seen = done = False
    for event in events:
        if event.data.strip() == _DONE:
            done = True
            break
        reply = _object(event.data, broken=event.kind == "error")
        seen = True
        _add(collected, reply, "delta")
    if not seen:
        raise NoAnswer("its stream contains no answer")
    answer = collected.whole(done)
    if not done and (must_say_done or not framed):
        raise NoAnswer("its stream ends without [DONE]: the answer is incomplete")
    return answer


def single(data: bytes, max_tokens: int) -> Answer:
    """The answer in one JSON object, from a server that does not stream. Raises NoAnswer as `streamed`."""
    collected = _Parts(most(max_tokens))
    reply = _object(data, broken=False)
    _add(collected, reply, "message")
    return collected.whole(said_done=True)


def most(max_tokens: int) -> int:
    """The maximum length in characters of an answer of `max_tokens` tokens."""
    return 4096 + _CHARACTERS * max_tokens


def _object(data: bytes | str, broken: bool) -> dict[str, Any]:
    reply = json_object(data)
    error = reply.get("error")
    if error is None and reply.get("object") == "error":  # as in older SGLang and vLLM
        error = reply
    if error is not None or broken:
        raise NoAnswer(f"the server reported an error: {_message(reply if error is None else error)}")
    return reply


def _message(error: Any) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        error = error["message"]
    return quoted(str(error)) or "without a message"


def _add(collected: _Parts, reply: dict[str, Any], place: str) -> None:
    choices = reply.get("choices")
    if choices is None:
        choices = []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise NoAnswer("choices of its answer is not a list of objects")
    if len(choices) > 1:
        raise NoAnswer("it returned several answers instead of one")
    for choice in choices:
        collected.add(choice, place)
    if (tokens := completion_tokens(reply.get("usage"))) is not None:
        collected.tokens = tokens


def completion_tokens(usage: Any) -> int | None:
    """The number of completion tokens in a usage object; None if it is not a valid number."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= _MOST_TOKENS:
        return None
    return count


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise NoAnswer(f"{name} of its answer is {kind_of(value)}, not a string")
    return value
