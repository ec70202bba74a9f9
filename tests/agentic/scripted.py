"""What a model said in each task of the notebook, reply by reply, and a server that tells it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_server import Reply, Script

SOLUTION = Path(__file__).parent / "notebook"
Transcript = Callable[[int, int], Reply]
"""From the number of the task, from 1, and that of the reply in it, from 0."""

TASKS = (
    "errors", "ids", "records", "note_store", "tag_store", "link_store", "removal", "search", "graph",
    "outline", "router", "batch", "history",
)  # fmt: skip
FIRST = ("note_store", "link_store", "router")  # files that a later task adds to


def call(name: str, **arguments: Any) -> Reply:
    """A reply that calls one tool."""
    return raw_call(name, json.dumps(arguments))


def raw_call(name: str, arguments: str) -> Reply:
    function = {"name": name, "arguments": arguments}
    return {"content": "", "tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}]}


def done(text: str = "Done.") -> Reply:
    return {"content": text}


def writes(name: str, content: str) -> Reply:
    return call("write_file", path=f"{name}.py", content=content)


def solution(name: str) -> str:
    return (SOLUTION / f"{name}.py").read_text()


def right(name: str) -> list[Reply]:
    """What is written in a task."""
    if name == "removal":
        return [writes(each, solution(each)) for each in ("note_store", "link_store")]
    if name == "history":
        return [writes("router", solution("router"))]
    return [writes(name, solution(f"{name}_first" if name in FIRST else name))]


def steps(name: str) -> list[Reply]:
    """The known-good replies of a task before the last."""
    tried = f"import {'router' if name == 'history' else 'note_store' if name == 'removal' else name}"
    return [call("read_file", path="SPECIFICATION.md"), *right(name), call("run_python", code=tried)]


def good(task: int, reply: int) -> Reply:
    """The known-good transcript: it reads, writes, tries, ends."""
    said = steps(TASKS[task - 1])
    return said[reply] if reply < len(said) else done()


def instead(task: str, *replies: Reply) -> Transcript:
    """The known-good transcript with other replies in one task, the last of them again and again."""

    def transcript(number: int, reply: int) -> Reply:
        if TASKS[number - 1] != task:
            return good(number, reply)
        return replies[min(reply, len(replies) - 1)]

    return transcript


def told(transcript: Transcript) -> Script:
    """The transcript as a server tells it, which remembers nothing: all it needs is in the request."""

    def script(asked: dict[str, Any]) -> Reply:
        found = re.match(r"Task (\d+) of", asked["messages"][1]["content"])
        assert found is not None
        names = {tool["function"]["name"] for tool in asked["tools"]}
        assert names == {"write_file", "read_file", "list_files", "run_python"}
        return transcript(int(found[1]), sum(each["role"] == "assistant" for each in asked["messages"]))

    return script
