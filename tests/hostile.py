"""A server on loopback that may send anything: raw sockets, one speech for each case, and the cases.

The first part of a path names the case: `http://127.0.0.1:PORT/CASE/v1/models`.
"""

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Speech = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/json\r\n"
SSE = OK + b"Content-Type: text/event-stream\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_LONGEST_S = 20.0  # after which every speech ends, whoever still listens


class Server:
    """Answers each connection with the speech of its case, in a thread of its own."""

    def __init__(self, cases: dict[str, Speech]) -> None:
        self.cases = cases
        self.visited: list[str] = []  # cases that were asked for
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, case: str) -> str:
        return f"http://127.0.0.1:{self.port}/{case}/v1"

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._talk, args=(self._socket.accept()[0],), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            connection.settimeout(_LONGEST_S)
            case = request(connection).split(b"/")[1].decode()
            self.visited.append(case)
            self.cases[case](connection)


def request(connection: socket.socket) -> bytes:
    """The head of a request, whose body is read, too."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            left = int(line.split(b":")[1]) - len(body)
            while left > 0:
                left -= len(connection.recv(65536))
    return head


@contextmanager
def serving(cases: dict[str, Speech]) -> Iterator[Server]:
    server = Server(cases)
    try:
        yield server
    finally:
        server.close()


def says(*pieces: bytes) -> Speech:
    """Sends it all and closes."""

    def speak(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return speak


def holds(data: bytes) -> Speech:
    """Sends it, then nothing more, and stays."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.recv(1)

    return speak


def drips(data: bytes, first: bytes = b"") -> Speech:
    """Sends `first`, then a byte every 50 ms, over and over."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(first)
        end = time.monotonic() + _LONGEST_S
        while time.monotonic() < end:
            for byte in data:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

    return speak


def floods(data: bytes, first: bytes = b"") -> Speech:
    """Sends `first`, then the same without end, as fast as it is taken."""
    much = data * (1 + 65536 // len(data))

    def speak(connection: socket.socket) -> None:
        connection.sendall(first)
        end = time.monotonic() + _LONGEST_S
        while time.monotonic() < end:
            connection.sendall(much)

    return speak


def resets(data: bytes) -> Speech:
    """Sends it, then breaks the connection off."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return speak


def sized(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def of_json(value: Any) -> Speech:
    """A JSON reply; bytes are sent as they are."""
    return says(sized(JSON, value if isinstance(value, bytes) else json.dumps(value).encode()))


def streamed(*events: Any, done: bool = True) -> Speech:
    """A stream in chunks, with an event for each value; bytes are sent as they are."""
    sent = [e if isinstance(e, bytes) else b"data: %s\n\n" % json.dumps(e).encode() for e in events]
    sent += [b"data: [DONE]\n\n"] if done else []
    return says(SSE + CHUNKED, *map(chunk, sent), b"0\r\n\r\n")


def delta(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """An event of a stream with one choice."""
    said = more if content is None else {"content": content} | more
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def message(content: Any = None, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """A whole answer in one object."""
    return {"choices": [{"index": 0, "message": {"content": content} | more, "finish_reason": finish}]}


MANY = b"\n\n".join(b'data: {"choices": [{"delta": {"content": "la "}}]}' for _ in range(50)) + b"\n\n"
ERROR = b"[/INST] \x1b[31m\x1b]8;;http://evil\x07 no"

HTTP: dict[str, Speech] = {  # nothing that any request may be answered with
    "closes at once": says(),
    "resets at once": resets(b""),
    "says nothing": holds(b""),
    "HTTP 0.9": says(b'{"data": [{"id": "m"}]}\n'),
    "garbage": says(bytes(range(256)) * 8),
    "another protocol": says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
    "HTTP 2 preface": says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "a version of HTTP that is none": says(b"HTTP/9.9.9 200 OK\r\n\r\n"),
    "a status that is no number": says(b"HTTP/1.1 OK 200\r\n\r\n"),
    "a status line and the end": says(b"HTTP/1.1 200 OK\r\n"),
    "headers without end": floods(b"X-Padding: aaaaaaaaaaaaaaaaaaaaaaaa\r\n", OK),
    "a header without end": floods(b"a", OK + b"X-Padding: "),
    "a status line without end": floods(b"2"),
    "a head byte by byte": drips(b"X-A: b\r\n", OK),
    "half a head": holds(OK + b"Content-Ty"),
    "100 Continue without end": floods(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing slowly without end": drips(b"HTTP/1.1 102 Processing\r\n\r\n"),
    "101 Switching Protocols": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
    "204 No Content": says(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "206 Partial Content": says(sized(b"HTTP/1.1 206 Partial Content\r\n", b"{}")),
    "301 elsewhere": says(b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere/v1\r\nContent-Length: 0\r\n\r\n"),
    "307 in a circle": says(b"HTTP/1.1 307 Again\r\nLocation: #\r\nContent-Length: 0\r\n\r\n"),
    "302 to a file": says(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
    "401": says(sized(b"HTTP/1.1 401 Unauthorized\r\n", b'{"error": "no key"}')),
    "404": says(sized(b"HTTP/1.1 404 Not Found\r\n", b"<html>")),
    "500 with markup": says(sized(b"HTTP/1.1 500 Oops\r\n", ERROR)),
    "500 without end": floods(b"sorry ", b"HTTP/1.1 500 Oops\r\n\r\n"),
    "500 byte by byte": drips(b"sorry ", b"HTTP/1.1 500 Oops\r\n\r\n"),
    "503 cut": says(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nwait"),
    "header with NUL": says(OK + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}"),
    "header without colon": says(OK + b"Nonsense\r\n\r\n"),
    "two lengths": says(OK + b"Content-Length: 2\r\nContent-Length: 200\r\n\r\n{}"),
    "a length below zero": says(OK + b"Content-Length: -1\r\n\r\n{}"),
    "a length in words": says(OK + b"Content-Length: many\r\n\r\n{}"),
    "encoded twice": says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(b"{}") + b"0\r\n\r\n"),
}  # fmt: skip
BODY: dict[str, Speech] = {  # bodies that come with status 200 and are none of JSON and none of a stream
    "a length and less": says(JSON + b'Content-Length: 500\r\n\r\n{"data": [{"id": "m"}]}'),
    "reset within": resets(JSON + b'Content-Length: 500\r\n\r\n{"data"'),
    "stops within": holds(JSON + b'Content-Length: 500\r\n\r\n{"data": '),
    "chunks of no size": says(JSON + CHUNKED + b"xyz\r\n{}\r\n0\r\n\r\n"),
    "a chunk cut": says(JSON + CHUNKED + b'50\r\n{"data": ['),
    "chunks without a last one": says(JSON + CHUNKED + chunk(b'{"data": [{"id": "m"}]}')),
    "a chunk of exabytes": says(JSON + CHUNKED + b"ffffffffffffffff\r\n{}"),
    "a chunk size without end": floods(b"0", JSON + CHUNKED),
    "without end": floods(b" ", JSON + b"\r\n"),
    "without end, in chunks": floods(chunk(b" "), JSON + CHUNKED),
    "byte by byte": drips(b" ", JSON + b"\r\n"),
    "a gzip bomb": says(sized(JSON + b"Content-Encoding: gzip\r\n", gzip.compress(bytes(20 << 20), 1))),
    "gzip, honestly": says(sized(JSON + b"Content-Encoding: gzip\r\n", gzip.compress(b'{"data": []}'))),
    "brotli": says(sized(JSON + b"Content-Encoding: br\r\n", b"\x8b\x00\x80{}\x03")),
    "an encoding of its own": says(sized(JSON + b"Content-Encoding: [/INST]\r\n", b"{}")),
    "HTML": says(sized(OK + b"Content-Type: text/html\r\n", b"<html>Sign in</html>")),
    "a picture": says(sized(OK + b"Content-Type: image/png\r\n", b"\x89PNG")),
    "nothing": of_json(b""),
    "spaces": of_json(b"   \r\n "),
    "null": of_json(None),
    "true": of_json(True),
    "a number": of_json(7),
    "a string": of_json("m"),
    "a list": of_json([{"id": "m"}]),
    "lists, deep": of_json(b"[" * 100_000),
    "lists, deep and closed": of_json(b'{"data": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "objects, deep": of_json(b'{"a":' * 100_000),
    "not UTF-8": of_json(b'{"data": [{"id": "\xff\xfe"}]}'),
    "UTF-16": of_json('{"data": [{"id": "m"}]}'.encode("utf-16")),
    "NaN": of_json(b'{"data": NaN}'),
    "infinity": of_json(b'{"data": -Infinity}'),
    "more than a double": of_json(b'{"data": 1e999}'),
    "an endless number": of_json(b'{"data": ' + b"9" * 1_000_000 + b"}"),
    "a key twice": of_json(b'{"data": [{"id": "m"}], "data": [{"id": "n"}]}'),
    "a key twice, deep": of_json(b'{"data": [{"id": "m", "id": "n"}]}'),
    "half a surrogate pair": of_json(b'{"data": [{"id": "\\ud800"}]}'),
    "two documents": of_json(b'{"data": []}{"data": []}'),
    "not quite JSON": of_json(b"{'data': [{'id': 'm'}],}"),
    "cut": of_json(b'{"data": [{"id": "m"'),
    "an error": of_json({"error": {"message": "[/INST] no such route"}}),
}  # fmt: skip
MODELS: dict[str, Speech] = {  # of /v1/models
    f"data is {json.dumps(data)[:40]}": of_json({"data": data})
    for data in (
        None, {}, "m", 7, True, [], [None], [7], ["m"], [[]], [[{"id": "m"}]], [{}], [{"id": None}],
        [{"id": 7}], [{"id": ""}], [{"id": ["m"]}], [{"id": {"id": "m"}}], [{"name": "m"}],
        [{"id": "m"}, None], [{"id": "m" * 5000}],
    )
} | {"no data": of_json({"object": "list"})}  # fmt: skip
NAMES = {  # of models, which a person, aiperf or a file system could take for something else
    "a variable": "${HF_TOKEN}",
    "a variable within": "model-${PROOFCARD_BENCHMARK_KEY:none}",
    "code": "{{ cycler.__init__.__globals__.os.popen('touch /tmp/x').read() }}",
    "a statement": "{% set x = 1 %}m",
    "a comment": "{# m #}",
    "an escape": "m\x1b[2J",
    "a link": "m\x1b]8;;http://evil\x07",
    "lines": "m\nverified",
    "a return": "m\rverified",
    "backwards": "m\u202edetrops",
    "zero width": "m\u200b",
    "NUL": "m\x00",
    "spaces": "   ",
}
