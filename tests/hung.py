"""What the programs were doing that a failed test has left running: the stacks of their Python threads.

Each is aborted, and so is what it has started. `PYTHONFAULTHANDLER`, which all of them find in their
environment, then writes every thread's stack to standard error.
"""

import os
import resource
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol


class Program(Protocol):
    """A `subprocess.Popen` or what is as good as one."""

    pid: int
    args: Any

    def poll(self) -> int | None: ...
    def communicate(self, *, timeout: float | None = None) -> Any: ...


_begun: list[Program] = []


def watch(program: Program) -> None:
    """It was begun in this phase of a test: setup, call or teardown."""
    _begun.append(program)


def forget() -> None:
    """The phase is over."""
    _begun.clear()


def end() -> str:
    """End what was begun in this phase and still runs; what it was, and what each has said to its end."""
    return "\n".join(_ended(program) for program in _begun if program.poll() is None)


def _ended(program: Program) -> str:
    tree = _tree(program.pid)
    told = [f"{program.args} was still running:", *(f"process {pid}, {_doing(pid)}" for pid in tree)]
    for pid in tree:  # or one would see its child end, and leave the place where it was
        _signal(pid, signal.SIGSTOP)
    for pid in reversed(tree):
        _signal(pid, signal.SIGABRT, signal.SIGCONT)
        time.sleep(0.1)  # one writes after the other
    try:
        said = program.communicate(timeout=10)
    except (subprocess.TimeoutExpired, ValueError):  # ValueError: its output was closed
        for pid in tree:
            _signal(pid, signal.SIGKILL)
        said = ("", "it did not end by SIGABRT within 10 s")
    return "\n".join([*told, *(text for text in said if text)])


def _signal(pid: int, *numbers: signal.Signals) -> None:
    """To a process that may have ended; it leaves no memory image on the disk."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        for number in numbers:
            os.kill(pid, number)


def _tree(pid: int) -> list[int]:
    """A process and everything below it, parents first."""
    children: list[str] = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            children += path.read_text().split()
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _doing(pid: int) -> str:
    """Its state, the kernel's function in which its first thread waits, and its command line."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        waits = Path(f"/proc/{pid}/wchan").read_text()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "ended"
    return f"{state} in {waits or '?'}: {words}"
