"""Why a server cannot be reached is known in a moment, and said in a few words."""

import socket
import time
from collections.abc import Iterator

import pytest

from proofcard.reachable import in_brief, why_unreachable


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_what_listens_is_reachable(listening: int) -> None:
    assert why_unreachable(f"http://127.0.0.1:{listening}/path") is None
    assert why_unreachable("sqlite:///runs/mlflow.db") is None


def test_what_does_not_is_known_at_once(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    assert why_unreachable("http://127.0.0.1:1") == "connection refused"
    assert why_unreachable("http://nothing.invalid:80") == "the host nothing.invalid is not known"
    assert why_unreachable("http://127.0.0.1:99999") == "its port is not a number"
    assert why_unreachable("http:///x") == "it names no host"
    assert time.monotonic() - started < 3
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listening}")
    assert why_unreachable("http://nothing.invalid:80") is None  # the proxy's matter
    for proxy in ("http://me:secret@127.0.0.1:1", "127.0.0.1:1"):
        monkeypatch.setenv("http_proxy", proxy)
        said = "the proxy 127.0.0.1:1: connection refused"
        assert why_unreachable("http://nothing.invalid:80") == said
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    assert why_unreachable("http://nothing.invalid:80") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "HTTPConnectionPool(host='127.0.0.1', port=1): Max retries exceeded with url: /api (Caused by "
            'NewConnectionError("HTTPConnection(host=\'127.0.0.1\', port=1): Failed to establish a new '
            'connection: [Errno 111] Connection refused"))',
            "connection refused",
        ),
        ("(MaxRetryError(\"... Failed to resolve 'hub.test' ([Errno -2] Name or service not known)\"), '(ID: "
         "12)')", "its host is not known"),
        ("[Errno 104] Connection reset by peer", "connection reset by peer"),
        ("('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
         "connection aborted"),
        ("failed with exception ('Connection broken: IncompleteRead(0 bytes read, 2 more expected)', ...)",
         "connection broken"),
        ("The read operation timed out", "timed out"),
        ("no pattern knows this", "no pattern knows this"),
    ],
)  # fmt: skip
def test_a_library_s_words_become_few(text: str, words: str) -> None:
    assert in_brief(RuntimeError(text)) == words
    assert len(in_brief(RuntimeError("x" * 1000))) == 160
