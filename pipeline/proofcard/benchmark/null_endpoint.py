"""An OpenAI-compatible endpoint without a model: sends tokens at a given pace, to measure a client.

    python -m proofcard.benchmark.null_endpoint 8:50:10 32:60:12.5

prints its address on loopback and answers until its standard input ends: here 8 requests, whose token k
is sent 50 + k × 10 ms after the request has arrived, then 32 at another pace, and the last pace for all that
follow. A token that is sent late does not delay later ones.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple

WORD = "token "
MODEL = "no-model"


class Pace(NamedTuple):
    """The pace of a number of requests, in seconds."""

    requests: int
    first_s: float
    each_s: float


async def serve(paces: list[Pace]) -> None:
    """Serve on a free loopback port until standard input ends."""
    schedule = _schedule(paces)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await _head(reader)) is not None:
                body = await reader.readexactly(int(head["content-length"]))
                if head["target"].startswith("GET "):
                    _answer(writer, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
                else:
                    await _tokens(writer, json.loads(body), next(schedule))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has disconnected
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


def _schedule(paces: list[Pace]) -> Iterator[Pace]:
    for pace in paces:
        yield from repeat(pace, pace.requests)
    yield from repeat(paces[-1])


async def _head(reader: asyncio.StreamReader) -> dict[str, str] | None:
    """The request line under `target`, and the headers in lower case; None at the end of the connection."""
    target = (await reader.readline()).decode()
    if not target:
        return None
    head = {"target": target, "content-length": "0"}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        head[name.lower()] = value.strip()
    return head


async def _tokens(writer: asyncio.StreamWriter, request: dict[str, Any], pace: Pace) -> None:
    arrived = asyncio.get_running_loop().time()
    count = int(request.get("max_completion_tokens") or request.get("max_tokens") or 16)
    usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
    if not request.get("stream"):
        await asyncio.sleep(pace.first_s + (count - 1) * pace.each_s)
        message = {"role": "assistant", "content": WORD * count}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        _answer(writer, _chunk(choices=[choice], usage=usage, object="chat.completion"))
        return
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    word = _event(_chunk(choices=[{"index": 0, "delta": {"content": WORD}, "finish_reason": None}]))
    for place in range(count):
        due = arrived + pace.first_s + place * pace.each_s
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        writer.write(word)
    writer.write(_event(_chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])))
    writer.write(_event(_chunk(choices=[], usage=usage)))
    writer.write(_event(None) + b"0\r\n\r\n")


def _chunk(**content: Any) -> dict[str, Any]:
    return {"id": "none", "object": "chat.completion.chunk", "created": 0, "model": MODEL} | content


def _event(content: dict[str, Any] | None) -> bytes:
    """A server-sent event as one HTTP chunk; None is the last event."""
    event = f"data: {'[DONE]' if content is None else json.dumps(content)}\n\n".encode()
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


def _answer(writer: asyncio.StreamWriter, content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _pace(content: str) -> Pace:
    requests, first_ms, each_ms = content.split(":")
    return Pace(int(requests), float(first_ms) / 1000, float(each_ms) / 1000)


if __name__ == "__main__":
    asyncio.run(serve([_pace(content) for content in sys.argv[1:]]))
