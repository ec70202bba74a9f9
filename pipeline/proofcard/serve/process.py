"""An engine's process and all of its descendants, under the supervisor."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from proofcard import children, interrupts
from proofcard.errors import Stop
from proofcard.serve import supervisor

_LOOK_EVERY_S = 2.0


class Supervised:
    """A context around a running program. `pid` is its own; its output goes to `log`.

    Every descendant is killed at the end, and also when this process is killed.
    """

    def __init__(self, argv: tuple[str, ...], environment: dict[str, str], log: Path, grace_s: float) -> None:
        """Start it; it has `grace_s` seconds between SIGTERM and SIGKILL.

        Raises:
            Stop: when the program does not exist.
        """
        self._grace_s = grace_s
        self._status: int | None = None
        self._memory, self._looked = 0, time.monotonic()
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=children.environment(),
        )  # fmt: skip
        order = {"argv": argv, "environment": environment, "log": str(log.absolute()), "grace_s": grace_s}
        reply: dict[str, Any] = {}
        try:
            assert self._supervisor.stdin is not None
            self._supervisor.stdin.write(json.dumps(order) + "\n")
            self._supervisor.stdin.flush()
            reply = self._hear()
        finally:
            if "pid" not in reply:
                self._let_go()
        if "pid" not in reply:
            raise Stop(f"{argv[0]} cannot be started: {reply.get('failed', 'its supervisor was killed')}")
        self.pid: int = reply["pid"]

    def __enter__(self) -> "Supervised":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ended(self) -> bool:
        """Whether it has exited; all of its descendants are gone then."""
        if psutil.pid_exists(self.pid) and self._supervisor.poll() is None:
            return False
        self._supervisor.wait()
        return True

    def family(self) -> set[int]:
        """The engine and all of its descendants, orphans included."""
        try:
            return {child.pid for child in psutil.Process(self._supervisor.pid).children(recursive=True)}
        except psutil.Error:  # it has just ended
            return set()

    def memory(self) -> int:
        """Resident memory of all of them in bytes; updated every few seconds at most."""
        if time.monotonic() - self._looked > _LOOK_EVERY_S:
            self._memory = sum(map(_resident, self.family()))
            self._looked = time.monotonic()
        return self._memory

    def status(self) -> int | None:
        """Wait for its end. Its exit status, negative for a signal; None if it is unknown."""
        if self._status is None and self._supervisor.stdout and not self._supervisor.stdout.closed:
            self._status = self._hear().get("status")
        return self._status

    def stop(self) -> None:
        """Stop it and all of its descendants. May be called again."""
        try:
            self._let_go()
        finally:
            self._sweep()

    def _let_go(self) -> None:
        """Closing its input makes the supervisor stop everything."""
        assert self._supervisor.stdin is not None
        with suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        if self._supervisor.poll() is None:
            interrupts.allow(self._grace_s + 60)
            try:
                self._supervisor.wait(self._grace_s + 30)
            except subprocess.TimeoutExpired:  # stuck: without it the kernel and `_sweep` do its work
                self._supervisor.kill()
                self._supervisor.wait()

    def _sweep(self) -> None:
        """Kill what a killed supervisor has left: the engine's session."""
        if self._supervisor.returncode in (0, None):
            return
        for process in psutil.pids():
            try:
                if os.getsid(process) == self.pid:
                    os.kill(process, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue

    def _hear(self) -> dict[str, Any]:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {}
        return reply


def _resident(process: int) -> int:
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0
