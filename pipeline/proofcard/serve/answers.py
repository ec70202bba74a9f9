"""An answer of `…/v1/chat/completions`, put together from a stream or a single object, and how it ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proofcard.screen import quoted
from proofcard.serve import reasoning
from proofcard.serve.replies import Event, json_object, kind_of
from proofcard.serve.tool_calls import Calls, ToolCall
from proofcard.serve.wire import NoAnswer

_DONE = "[DONE]"
_BY_ITSELF = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")  # as servers call a model's own end
_AT_LENGTH = ("length", "max_tokens")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields that servers give them in
_MOST_TOKENS = 10**9  # more than this in one answer is no count
_CHARACTERS = 256  # the most that a token may stand for; the longest known are runs of spaces


@dataclass(frozen=True)
class Answer:
    """One whole answer.

    `text` is what stands after the thoughts, and `thinking` whether it ended before they did. `finish` is the
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
        """Whether the limit of tokens ended it."""
        return self.finish in _AT_LENGTH

    @property
    def by_itself(self) -> bool:
        """Whether the model ended it."""
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
        """A choice of an event or an object, whose message is under `place`."""
        if choice.get("index") not in (0, None) or isinstance(choice.get("index"), bool):
            raise NoAnswer("it gives several answers, one was asked for")
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
            raise NoAnswer("its answer goes on after its finish_reason")
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
                said = part.get("thinking", part.get("reasoning", part.get("text", "")))
                self._append(self.thoughts, said if isinstance(said, str) else "")
            elif kind == "refusal":
                self._append(self.refusal, _string(part.get("refusal"), "refusal"))
            else:
                raise NoAnswer(f"a part of its answer is no text ({quoted(str(kind), 40)})")

    def _append(self, where: list[str], text: str) -> None:
        self._grow(len(text))
        if text:
            where.append(text)

    def _grow(self, characters: int) -> None:
        self.length += characters
        if self.length > self.most:
            raise NoAnswer("it gives more text than the tokens that were asked for can be")

    def whole(self, said_done: bool) -> Answer:
        if self.finish is None:
            raise NoAnswer("its answer stops without a finish_reason: it is not whole")
        found = reasoning.parts("".join(self.text))
        beside = "".join(self.thoughts)
        return Answer(
            text=found.answer,
            thoughts=beside + found.thoughts,
            thinking=found.open or (bool(beside.strip()) and not found.answer),
            finish=self.finish,
            tokens=self.tokens,
            said_done=said_done,
            refusal="".join(self.refusal).strip(),
            calls_tools=self.calls_tools,
            tool_calls=self.calls.whole(),
        )


def streamed(events: Iterable[Event], max_tokens: int, framed: bool, must_say_done: bool) -> Answer:
    """The answer in a stream's events, read up to `[DONE]`, or to the end where there is none.

    A stream whose end HTTP marks (`framed`) may leave `[DONE]` out, as `transformers serve` does, unless
    `must_say_done`.

    Raises:
        NoAnswer: for an event that is not understood, an error among them, or an answer that is not whole.
    """
    found = _Parts(most(max_tokens))
    seen = done = False
    for event in events:
        if event.data.strip() == _DONE:
            done = True
            break
        said = _object(event.data, broken=event.kind == "error")
        seen = True
        _add(found, said, "delta")
    if not seen:
        raise NoAnswer("its stream holds no answer")
    answer = found.whole(done)
    if not done and (must_say_done or not framed):
        raise NoAnswer("its stream ends without [DONE]: the answer is not whole")
    return answer


def single(data: bytes, max_tokens: int) -> Answer:
    """The answer in one JSON object, of a server that does not stream. Raises NoAnswer as `streamed` does."""
    found = _Parts(most(max_tokens))
    said = _object(data, broken=False)
    _add(found, said, "message")
    return found.whole(said_done=True)


def most(max_tokens: int) -> int:
    """The most characters that an answer of so many tokens is read to."""
    return 4096 + _CHARACTERS * max_tokens


def _object(data: bytes | str, broken: bool) -> dict[str, Any]:
    said = json_object(data)
    error = said.get("error")
    if error is None and said.get("object") == "error":  # as SGLang and vLLM wrote it once
        error = said
    if error is not None or broken:
        raise NoAnswer(f"the server broke off: {_message(said if error is None else error)}")
    return said


def _message(error: Any) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        error = error["message"]
    return quoted(str(error)) or "it does not say why"


def _add(found: _Parts, said: dict[str, Any], place: str) -> None:
    choices = said.get("choices")
    if choices is None:
        choices = []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise NoAnswer("choices of its answer is not a list of objects")
    if len(choices) > 1:
        raise NoAnswer("it gives several answers, one was asked for")
    for choice in choices:
        found.add(choice, place)
    if (tokens := completion_tokens(said.get("usage"))) is not None:
        found.tokens = tokens


def completion_tokens(usage: Any) -> int | None:
    """How many tokens a usage object says an answer was; None for what is no possible number."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= _MOST_TOKENS:
        return None
    return count


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise NoAnswer(f"{name} of its answer is {kind_of(value)}, not a string")
    return value
