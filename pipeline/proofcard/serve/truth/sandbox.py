"""Code that a model wrote, run where it can do no harm and held against assertions."""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from typing import Any

from proofcard.serve.truth import runner

_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)^[ \t]*(?:```|~~~)", re.DOTALL | re.MULTILINE)
_SECONDS = 10.0
_MOST = 4096  # bytes of what the runner says


def code_in(answer: str) -> str | None:
    """The first fenced block that defines something, or the whole answer if it does without fences."""
    blocks = _FENCED.findall(answer) or [answer]
    return next((block for block in blocks if re.search(r"^\s*(def|class) ", block, re.MULTILINE)), None)


def trial(code: str, holds: str, seconds: float = _SECONDS) -> tuple[bool, str]:
    """Whether the assertions in `holds` hold after `code`, and what happened.

    It runs in a process without environment, site packages, files to write, other processes and network, in
    an empty folder, within limits of time and memory (`runner`).
    """
    word = secrets.token_hex(8)  # said only after the last assertion: code that ends early says nothing
    order = json.dumps({"code": code, "holds": holds, "word": word}).encode()
    ours, theirs = os.pipe()
    with tempfile.TemporaryDirectory() as empty, os.fdopen(ours, "rb") as hears:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", runner.__file__, str(theirs)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                cwd=empty, env={}, pass_fds=(theirs,), start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(theirs)
        try:
            process.communicate(order, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False, f"its code was stopped after {seconds:g} s"
        finally:
            process.kill()
            process.wait()
        said = hears.read(_MOST).decode(errors="replace")
    return _told(said, word, process.returncode)


def _told(said: str, word: str, status: int) -> tuple[bool, str]:
    try:
        result: dict[str, Any] = json.loads(said)
    except ValueError:
        how = f"was killed by signal {-status}" if status < 0 else "ended before its test"
        return False, f"its code {how}"
    if result.get("word") == word:
        return True, f"its code passes, {result['isolation']}"
    return False, f"its code fails: {result.get('error', 'it says something else')}"[:200]
