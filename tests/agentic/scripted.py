"""A server over real HTTP that replies from a transcript: what a model said in each task, reply by reply."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = "scripted"
SOLUTION = Path(__file__).parent / "notebook"
Reply = dict[str, Any]
"""A message of the assistant: `content`, and perhaps `tool_calls`; `finish` where it is not the usual one."""
Script = Callable[[int, int], Reply]
"""From the number of the task and of the reply in it, both from 1 and 0, to the reply."""

FILES = [
    "errors", "ids", "records", "note_store", "tag_store", "link_store", "removal", "search", "graph",
    "outline", "router", "batch", "history",
]  # fmt: skip


def call(name: str, **arguments: Any) -> Reply:
    """A reply that calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": "", "tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}]}


def done(text: str = "Done.") -> Reply:
    return {"content": text}


def written(name: str) -> list[Reply]:
    """What is written in a task: the files that are right for it."""
    first = {"note_store", "link_store", "router"}
    if name == "removal":
        return [_file("note_store", "note_store"), _file("link_store", "link_store")]
    if name == "history":
        return [_file("router", "router")]
    return [_file(name, f"{name}_first" if name in first else name)]


def _file(name: str, source: str) -> Reply:
    return call("write_file", path=f"{name}.py", content=(SOLUTION / f"{source}.py").read_text())


def good(task: int, reply: int) -> Reply:
    """The known-good transcript: reads, writes, tries, ends."""
    name = FILES[task - 1]
    steps = [call("read_file", path="SPECIFICATION.md"), *written(name), call("run_python", code="print(1)")]
    return steps[reply] if reply < len(steps) else done()


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """The server's address, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            task = re.match(r"Task (\d+) of", asked["messages"][1]["content"])
            assert task is not None and asked["tools"]
            said = sum(message["role"] == "assistant" for message in asked["messages"])
            reply = dict(script(int(task[1]), said))
            if "status" in reply:
                self.send_error(reply["status"], "refused")
                return
            finish = reply.pop("finish", "tool_calls" if "tool_calls" in reply else "stop")
            message = {"role": "assistant", **reply}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self._send({"choices": [choice], "usage": {"completion_tokens": 10}})

        def _send(self, said: Any) -> None:
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
