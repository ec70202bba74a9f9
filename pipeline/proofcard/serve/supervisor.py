"""A small process between us and an engine: however we end, it stops the engine and all of its processes.

    python -I -S supervisor.py        # standard library only; reads what to run from standard input

The first line of its input is an order, `{"argv", "environment", "log", "grace_s"}`. It answers on standard
output with `{"pid": …}` or `{"failed": …}`, and `{"status": …}` once the engine is gone. The input stays open
as long as we live: when it closes, at SIGTERM, or when the engine exits, every descendant is killed.
None escapes by starting a session or losing its parent, since orphans below a subreaper become its children.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_EVERY = 0.1  # seconds


_running: list[subprocess.Popen[bytes]] = []


class _Told(Exception):
    """SIGTERM."""


def _main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        _say({"failed": f"prctl: {os.strerror(ctypes.get_errno())}"})
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _told)
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    engine: int | None = None
    status: int | None = None
    try:
        engine = _started(order, libc)
        status = _watched(engine) if engine is not None else None
    except _Told:
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if engine is not None and status is None:
        status = _asked_to_end(engine, order["grace_s"])
    reaped = _end_all()
    if engine is not None:
        _say({"status": status if status is not None else reaped.get(engine)})


def _told(*_: object) -> None:
    raise _Told


def _started(order: dict[str, Any], libc: ctypes.CDLL) -> int | None:
    """The engine's process, in its own session, with its output in the log; it dies with this process."""

    def die_with_us() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        with Path(order["log"]).open("ab") as log:
            engine = subprocess.Popen(
                order["argv"], env=order["environment"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_us,
            )  # fmt: skip
    except OSError as error:
        _say({"failed": str(error)})
        return None
    _running.append(engine)  # its destructor would reap an engine that exits at once
    _say({"pid": engine.pid})
    return engine.pid


def _watched(engine: int) -> int | None:
    """Its exit status when it exits; None at the end of our input."""
    while True:
        if (status := _reap().get(engine)) is not None:
            return status
        if select.select([sys.stdin], [], [], _LOOK_EVERY)[0] and not os.read(sys.stdin.fileno(), 4096):
            return None


def _asked_to_end(engine: int, grace_s: float) -> int | None:
    """Send SIGTERM to the engine; its exit status if it exits within the grace period."""
    _kill(engine, signal.SIGTERM)
    end = time.monotonic() + grace_s
    while time.monotonic() < end:
        if (status := _reap().get(engine)) is not None:
            return status
        time.sleep(_LOOK_EVERY / 2)
    return None


def _end_all() -> dict[int, int]:
    """Send SIGKILL to every descendant until none is left; exit statuses by process."""
    reaped: dict[int, int] = {}
    while below := _descendants():
        for process in below:
            _kill(process, signal.SIGKILL)
        reaped |= _reap()
        time.sleep(0.01)
    return reaped


def _reap() -> dict[int, int]:
    """Exit statuses of the children that have ended, negative for signals."""
    ended: dict[int, int] = {}
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if process == 0:
            return ended
        ended[process] = os.waitstatus_to_exitcode(status)


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            parents[int(folder.name)] = int(after_name[1])
    below, ours = [], {os.getpid()}
    while fresh := [
        process for process, parent in parents.items() if parent in ours and process not in below
    ]:
        below += fresh
        ours |= set(fresh)
    return below


def _kill(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _say(what: dict[str, Any]) -> None:
    try:
        print(json.dumps(what), flush=True)
    except BrokenPipeError:  # nobody is listening any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    _main()
