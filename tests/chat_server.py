"""A chat server over real HTTP whose every reply a test decides."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted"
Reply = dict[str, Any]
"""A message of the assistant: `content`, perhaps `tool_calls`; `finish` where it ends otherwise than usual,
or `status`, an HTTP status in place of a reply."""
Script = Callable[[dict[str, Any]], Reply]
"""From the request's body to the reply."""


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """The server's address, ending in /v1, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

        def do_POST(self) -> None:
            reply = dict(script(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            if "status" in reply:
                self.send_error(reply["status"], "as scripted")
                return
            finish = reply.pop("finish", "tool_calls" if "tool_calls" in reply else "stop")
            choice = {"index": 0, "message": {"role": "assistant", **reply}, "finish_reason": finish}
            self._send({"choices": [choice], "usage": {"completion_tokens": 10}})

        def _send(self, said: Any) -> None:
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
