"""MLflow's server as `make ui` runs it: its start page leads to the runs, not to pages for chat programs.

`mlflow server --app-name proofcard` finds it, MLflow's way to extend a server. Only the start page differs.
"""

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from proofcard import tracking_links

LANDING = "PROOFCARD_LANDING"
"""A variable with the page to land on, from its `#` on; without it that of all experiments."""
_HEAD = b"</head>"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def script(landing: str) -> str:
    """What the start page does first: choose the pages for runs, and go there if no page was requested."""
    kept = {
        "mlflow.workflowType_v1": json.dumps(tracking_links.WORKFLOW),
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",  # it covers a third of the first page
    }
    return (
        f"<script>for (const [key, value] of Object.entries({json.dumps(kept)}))"
        " if (localStorage.getItem(key) === null) localStorage.setItem(key, value);"
        f" if (['', '#', '#/'].includes(location.hash)) location.replace({json.dumps(landing)});</script>"
    )


class Landing:
    """An ASGI application around MLflow's."""

    def __init__(self, inner: Any, landing: str) -> None:
        self._inner, self._script = inner, script(landing).encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer as MLflow does, the start page with our script in its head."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._inner(scope, receive, send)
            return
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                await send(self._with_script(start, body))
                await send({"type": "http.response.body", "body": self._changed(body)})

        unconditional = [each for each in scope["headers"] if not each[0].startswith(b"if-")]
        await self._inner({**scope, "headers": unconditional}, receive, collect)

    def _changed(self, body: bytes) -> bytes:
        return body.replace(_HEAD, self._script + _HEAD, 1)

    def _with_script(self, start: Message, body: bytes) -> Message:
        """The response's beginning with the length of what follows, not to be kept by the browser."""
        replaced = (b"content-length", b"etag", b"last-modified", b"cache-control")
        headers = [each for each in start["headers"] if each[0].lower() not in replaced]
        length = str(len(self._changed(body))).encode()
        return {**start, "headers": [*headers, (b"content-length", length), (b"cache-control", b"no-store")]}


def create() -> Landing:
    """The application, for MLflow's server."""
    from mlflow.server.fastapi_app import app

    return Landing(app, os.environ.get(LANDING, "#/experiments"))
