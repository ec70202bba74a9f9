"""Answers that are kept until a run has ended, so that an interrupted one does not ask for them again."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

from proofcard.documents.tasks import Outcome

Reply = tuple[str, Outcome, int | None]
"""The answer's text after its thoughts, how it ended, its tokens."""


class Kept:
    """A file with a line for each answer, found by the sha256 of everything that decides the request.

    Without a file nothing is kept. A line that cannot be read, as after a power cut, does not count.
    """

    def __init__(self, path: Path | None) -> None:
        """Read what is there."""
        self._path = path
        self._replies: dict[str, Reply] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if (entry := _read(line)) is not None:
                    self._replies[entry[0]] = entry[1]

    def __len__(self) -> int:
        """How many answers there are."""
        return len(self._replies)

    def get(self, request: dict[str, Any]) -> Reply | None:
        """The answer to a request, if there is one."""
        return self._replies.get(_key(request))

    def add(self, request: dict[str, Any], reply: Reply) -> None:
        """Keep an answer; one thread at a time."""
        if self._path is None:
            return
        text, how, tokens = reply
        line = {"request": _key(request), "text": text, "outcome": how, "tokens": tokens}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _key(request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _read(line: str) -> tuple[str, Reply] | None:
    try:
        values = json.loads(line)
        key, text, how, tokens = (values[name] for name in ("request", "text", "outcome", "tokens"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    known = how in get_args(Outcome) and isinstance(text, str) and isinstance(key, str)
    return (key, (text, how, tokens)) if known and (tokens is None or type(tokens) is int) else None
