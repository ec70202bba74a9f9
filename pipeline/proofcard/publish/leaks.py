"""Local folders and host names: what is published beside the seal must hold none of this machine's."""

import base64
import binascii
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from proofcard import portable
from proofcard.errors import Stop
from proofcard.publish.content import Outgoing

_ENCODED = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")  # the payload of a signed statement
_USUAL = {"localhost", "debian", "ubuntu", "fedora", "linux", "docker", "container", "runner", "server"}
_SHORTEST = 5  # letters of a host name that is looked for; shorter ones are words of any text


def check(files: list[Outgoing], checkpoint: Path, work_dir: Path) -> None:
    """Look through every file that is not sealed, and through what signed statements in them hold.

    Raises:
        Stop: naming the first file and line with a local folder or this host's name, and what to do.
    """
    sought = _sought(checkpoint, work_dir)
    for file in files:
        for text in _texts(file.content or b""):
            for what, pattern in sought:
                if (match := pattern.search(text)) is not None:
                    line = text.count("\n", 0, match.start()) + 1
                    raise Stop(
                        f"{file.name}, line {line}, contains {what}, {match[0]!a}, which is not for "
                        "others: make its document again with this version, and then the card"
                    )


def _sought(checkpoint: Path, work_dir: Path) -> list[tuple[str, re.Pattern[str]]]:
    """Each with what it is called. A folder at the root of the filesystem is a word of any text."""
    folders = {
        "the working folder": Path.cwd(),
        "your home": Path.home(),
        "the folder of the checkpoint": checkpoint.absolute(),
        "the folder that it is in": checkpoint.resolve().parent,
        "work_dir": work_dir.absolute(),
    }
    found = [(what, portable.pattern(str(path))) for what, path in folders.items() if len(path.parts) > 1]
    host = socket.gethostname().split(".")[0]
    if len(host) >= _SHORTEST and host.lower() not in _USUAL:
        found.append(("this host's name", re.compile(rf"(?<![\w-]){re.escape(host)}(?![\w-])")))
    return found


def _texts(content: bytes) -> Iterator[str]:
    """A file as text, and what it holds in base64."""
    yield content.decode("utf-8", "replace")
    for match in _ENCODED.finditer(content):
        encoded = match[0].rstrip(b"=")
        try:
            yield base64.b64decode(encoded + b"=" * (-len(encoded) % 4)).decode("utf-8", "replace")
        except binascii.Error:
            continue
