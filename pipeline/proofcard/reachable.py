"""Whether a server can be reached, before a client library tries for long; and why not, in a few words."""

import contextlib
import re
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from proofcard.errors import one_line

_SECONDS = 4.0
_BRIEF = re.compile(
    r"\[Errno -?\d+\] (?P<system>[A-Z][\w ]+)"
    r"|(?P<words>Failed to resolve|timed out|Connection (?:aborted|broken)|Remote end closed connection"
    r"|[Pp]eer closed connection|Connection refused|Connection reset by peer|certificate verify failed)"
)
_INSTEAD = {
    "failed to resolve": "its host is not known",
    "name or service not known": "its host is not known",
}


def why_unreachable(address: str) -> str | None:
    """Why no connection to an http(s) address can be made, in a few words; None if one can, or is not tried.

    Where a proxy stands in between, it is the proxy that is tried.
    """
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        return "its port is not a number"
    if parts.scheme not in ("http", "https"):
        return None
    if not host:
        return "it names no host"
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return _why_no_proxy(getproxies()[parts.scheme])
    return _why_no_connection(host, port or (443 if parts.scheme == "https" else 80))


def _why_no_proxy(address: str) -> str | None:
    parts = urlsplit(address if "//" in address else f"//{address}")
    with contextlib.suppress(ValueError):
        if parts.scheme in ("", "http", "https") and parts.hostname and parts.port:
            why = _why_no_connection(parts.hostname, parts.port)
            return f"the proxy {parts.hostname}:{parts.port}: {why}" if why else None
    return None  # the client library knows more kinds of them


def _why_no_connection(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), _SECONDS).close()
    except socket.gaierror:
        return f"the host {host} is not known"
    except TimeoutError:
        return f"no connection within {_SECONDS:.0f} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def in_brief(error: BaseException) -> str:
    """What a connection failed with, without the objects and addresses that HTTP libraries print."""
    text = one_line(error)
    found = _BRIEF.search(text)
    if found is None:
        return text if len(text) <= 160 else f"{text[:159]}…"
    words = (found["system"] or found["words"]).strip().lower()
    return _INSTEAD.get(words, words)
