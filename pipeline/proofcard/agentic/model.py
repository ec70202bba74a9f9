"""A server as a model of inspect-ai, asked through our own client, which believes no server."""

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    modelapi,
)
from inspect_ai.tool import ToolCall, ToolChoice, ToolInfo

from proofcard.config.agentic import Agentic
from proofcard.serve import client, tool_calls
from proofcard.serve.answers import Answer
from proofcard.serve.endpoint import Endpoint
from proofcard.serve.outcomes import Outcome, outcome
from proofcard.serve.reasoning import template_opens
from proofcard.serve.replies import json_object
from proofcard.serve.wire import NoAnswer

_NAME = 64  # characters of a tool's name that are passed on
_ENDS = {"cut": "max_tokens", "ended": "unknown", "refused": "content_filter", "tool": "tool_calls"}


@dataclass
class Asked:
    """What was asked of the server and came back, counted for one task."""

    replies: int = 0
    calls: int = 0
    malformed: int = 0
    tokens: int = 0
    names: list[str] = field(default_factory=list)
    last: Outcome = "answered"


class Server(ModelAPI):
    """An OpenAI-compatible server.

    `run` numbers the run, for its seed; `asked` is set anew for each task; `failed` is why it gave no answer.
    """

    _endpoint: Endpoint
    _agentic: Agentic
    _thinks_first: bool

    def __init__(self, name: str) -> None:
        """`name` is all that inspect-ai remembers, and logs, of how it was made: no key is among it."""
        super().__init__(name)
        self.run, self.asked = 0, Asked()
        self.failed: str | None = None

    @classmethod
    def of(cls, endpoint: Endpoint, agentic: Agentic) -> "Server":
        """The model behind an endpoint."""
        made: Server = modelapi("proofcard")(cls)(endpoint.model)  # type: ignore[assignment]  # it adds a name
        made._endpoint, made._agentic = endpoint, agentic
        made._thinks_first = template_opens(endpoint.tokenizer)
        return made

    def model(self) -> Model:
        """The same for inspect-ai's agents."""
        return Model(self, GenerateConfig())

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """The reply to a conversation. Raises NoAnswer when there is none."""
        body = self._body(input, tools)
        answer = await anyio.to_thread.run_sync(self._complete, body)
        calls = [_call(number, each) for number, each in enumerate(answer.tool_calls, self.asked.calls)]
        self.asked.replies += 1
        self.asked.calls += len(calls)
        self.asked.malformed += sum(each.parse_error is not None for each in calls)
        self.asked.names += [each.function for each in calls]
        self.asked.tokens += answer.tokens or 0
        self.asked.last = outcome(answer, self._thinks_first and not calls)
        content: list[Any] = [ContentText(text=answer.text)]
        if answer.thoughts:
            content.insert(0, ContentReasoning(reasoning=answer.thoughts))
        message = ChatMessageAssistant(
            content=content, tool_calls=calls or None, model=self.model_name, source="generate"
        )
        end: Any = "tool_calls" if calls else _ENDS.get(self.asked.last, "stop")
        return ModelOutput(
            model=self.model_name, choices=[ChatCompletionChoice(message=message, stop_reason=end)]
        )

    def _complete(self, body: dict[str, Any]) -> Answer:
        at, asked = self._endpoint, self._agentic
        return client.complete(at.url, at.api_key, body, asked.max_tokens, asked.timeout_s, at.says_done)

    def _body(self, input: list[ChatMessage], tools: list[ToolInfo]) -> dict[str, Any]:
        sampling = self._agentic.sampling.model_dump(exclude_none=True)
        if "seed" in sampling:
            sampling["seed"] += self.run
        return {
            "model": self._endpoint.model,
            "messages": [_message(each) for each in input],
            "tools": [_tool(each) for each in tools],
            "max_tokens": self._agentic.max_tokens,
            "stream": True,
            **sampling,
        }


def _tool(tool: ToolInfo) -> dict[str, Any]:
    parameters = tool.parameters.model_dump(exclude_none=True)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _message(message: ChatMessage) -> dict[str, Any]:
    """As OpenAI's API has it. Thoughts go back beside the answer, where templates look for them."""
    if isinstance(message, ChatMessageTool):
        text = message.error.message if message.error is not None else message.text
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": text}
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if isinstance(message, ChatMessageAssistant):
        parts = message.content if isinstance(message.content, list) else []
        if thoughts := "".join(each.reasoning for each in parts if isinstance(each, ContentReasoning)):
            turn["reasoning_content"] = thoughts
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": each.id,
                    "type": "function",
                    "function": {"name": each.function, "arguments": json.dumps(each.arguments)},
                }
                for each in message.tool_calls
            ]
    return turn


def _call(number: int, call: tool_calls.ToolCall) -> ToolCall:
    """A call whose arguments are not a JSON object is one that inspect-ai answers with an error."""
    arguments, error = {}, None
    try:
        arguments = json_object(call.arguments or "{}")
    except NoAnswer as refused:
        error = f"The arguments are not a JSON object: {refused}"
    name = call.name[:_NAME] or "unnamed"
    return ToolCall(id=call.id or f"call_{number}", function=name, arguments=arguments, parse_error=error)
