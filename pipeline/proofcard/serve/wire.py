"""One HTTP exchange with an untrusted server, within limits of time and size.

httpcore, which httpx is built on, speaks HTTP/1.1: it follows no redirect, decompresses nothing, reads no
proxy and no password from the environment, refuses HTTP/0.9 and a head of more than 100 KiB. What it does
not limit is added below the protocol: each read gets what is left of the *whole*
exchange's time and bytes, whatever the server does with them.
"""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpcore

from proofcard.reachable import in_brief
from proofcard.screen import quoted

_MIB = 1 << 20
_DETAIL = 2048  # bytes of a server's error message


class NoAnswer(Exception):
    """The server has not given a valid answer; the message says why. `status` is its HTTP status, if any."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Limits:
    """The limits of one exchange: `seconds` from the first connection attempt, `size` bytes received."""

    seconds: float
    size: int = 4 * _MIB
    _end: float = field(init=False)
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds
        self._left = self.size

    def remaining(self) -> float:
        """Seconds left. Raises NoAnswer when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise NoAnswer(f"no complete answer within {self.seconds:g} s")
        return left

    def take(self, count: int) -> None:
        """Count received bytes. Raises NoAnswer above the limit."""
        self._left -= count
        if self._left < 0:
            raise NoAnswer(f"its answer is longer than the limit of {self.size / _MIB:.1f} MiB")


class NoConnection(NoAnswer):
    """Nobody could be asked."""

    def __str__(self) -> str:
        return f"the connection failed: {self.args[0]}"


@dataclass(frozen=True)
class Reply:
    """A reply with status 200. `framed`: HTTP itself marks the end of the body, so that a cut is noticed."""

    content_type: str
    framed: bool
    body: Iterator[bytes]

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.body)


@contextmanager
def exchange(
    method: str, url: str, api_key: str | None, content: bytes | None, limits: Limits
) -> Iterator[Reply]:
    """Send a request, and yield the reply while it arrives.

    Raises:
        NoAnswer: for a failed connection, a status other than 200, invalid HTTP, an encoded body,
            an incomplete one, or an exceeded limit; also from within the context while the body is read.
    """
    headers = [("Content-Type", "application/json"), ("Accept-Encoding", "identity"), ("Connection", "close")]
    if api_key is not None:
        headers.append(("Authorization", f"Bearer {api_key}"))
    secure = ssl.create_default_context() if url.startswith("https:") else None
    replied = False
    try:
        with (
            httpcore.ConnectionPool(
                ssl_context=secure, max_connections=1, network_backend=_Backend(limits)
            ) as pool,
            pool.stream(method, url, headers=headers, content=content) as response,
        ):
            reply = _reply(response)
            replied = True
            yield reply
    except (httpcore.TimeoutException, TimeoutError):
        raise NoAnswer(f"no complete answer within {limits.seconds:g} s") from None
    except httpcore.ConnectError as error:
        raise NoConnection(quoted(in_brief(error))) from None
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise NoAnswer(f"its reply is incomplete or not valid HTTP: {quoted(str(error))}") from None
    except (httpcore.NetworkError, OSError) as error:
        raise NoAnswer(f"the connection was lost: {quoted(str(error))}") from None
    except (ValueError, OverflowError) as error:
        if replied:
            raise
        raise NoAnswer(f"the request cannot be sent: {quoted(str(error))}") from None


def _reply(response: httpcore.Response) -> Reply:
    headers = {name.lower(): value.decode("latin-1").strip() for name, value in response.headers}
    if response.status != 200:
        raise NoAnswer(_why(response, headers), response.status)
    if headers.get(b"content-encoding", "identity").lower() not in ("identity", ""):
        raise NoAnswer(
            f"its answer is compressed ({quoted(headers[b'content-encoding'], 40)}), which was not requested"
        )
    return Reply(
        content_type=headers.get(b"content-type", "").partition(";")[0].strip().lower(),
        framed=b"content-length" in headers or b"transfer-encoding" in headers,
        body=_body(response),
    )


def _body(response: httpcore.Response) -> Iterator[bytes]:
    assert not isinstance(response.stream, bytes)
    stream: Iterable[bytes] = response.iter_stream()
    yield from stream


def _why(response: httpcore.Response, headers: dict[bytes, str]) -> str:
    """A status in words: the target of a redirect, or the start of the error message."""
    if 300 <= response.status < 400:
        place = quoted(headers.get(b"location", "nowhere"), 100)
        return f"HTTP {response.status}: it redirects to {place}, which is not followed"
    detail = b""
    try:
        for piece in response.iter_stream():
            detail += piece[:_DETAIL]
            if len(detail) >= _DETAIL:
                break
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, NoAnswer):
        pass  # report the status alone
    text = quoted(detail[:_DETAIL].decode(errors="replace"))
    return f"HTTP {response.status}: {text or 'no message'}"


class _Backend(httpcore.NetworkBackend):
    """Sockets on which every wait is bounded by what is left of the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        """A connection; the other arguments are httpcore's."""
        left = self._limits.remaining()
        return _Stream(
            self._sockets.connect_tcp(host, port, left, local_address, socket_options), self._limits
        )


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._limits.remaining())
        self._limits.take(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limits.remaining())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secure = self._stream.start_tls(ssl_context, server_hostname, self._limits.remaining())
        return _Stream(secure, self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
