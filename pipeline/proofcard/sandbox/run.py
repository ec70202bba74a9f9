"""Runs a Python program in confinement, exchanging lines with it or collecting all of its output."""

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from proofcard.errors import Stop
from proofcard.sandbox import confined, policy

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """Limits of one program: wall-clock and CPU seconds, bytes of address space, bytes of output."""

    seconds: float = 10.0
    cpu_s: int = 5
    memory: int = 1 << 30
    output: int = 1 << 20


USUAL = Limits()


class Ended(Exception):
    """The program has ended, was stopped, or exceeded a limit. The message says which."""


@dataclass(frozen=True)
class Result:
    """A finished program: whether its status was 0, its output, and how it ended, in words.

    `refused` lists what the kernel refused of the sandbox; empty unless `weak`.
    """

    succeeded: bool
    output: bytes
    how: str
    refused: tuple[str, ...]


class Running:
    """A confined program and its two pipes. All waits together are limited to `Limits.seconds`."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Limits) -> None:
        """Wrap a process whose stdin and stdout are pipes."""
        assert process.stdin is not None and process.stdout is not None
        self._process, self._limits = process, limits
        self._stdin, self._stdout = process.stdin.fileno(), process.stdout.fileno()
        self._deadline = time.monotonic() + limits.seconds
        self._received = 0
        self.unread = b""
        self.refused: tuple[str, ...] = ()
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe, False)

    def send(self, data: bytes) -> None:
        """Write to its stdin. Raises Ended when it does not read it."""
        while data:
            self._wait(self._stdin, select.POLLOUT)
            try:
                data = data[os.write(self._stdin, data) :]
            except BrokenPipeError:
                raise Ended(self._how()) from None

    def line(self) -> bytes:
        """The next line of output, without its newline. Raises Ended when there is none."""
        while b"\n" not in self.unread:
            self._within_limit()
            if not self._read():
                raise Ended(self._how())
        line, _, self.unread = self.unread.partition(b"\n")
        return line

    def rest(self) -> Result:
        """All remaining output, until it ends. Raises Ended when it exceeds a limit."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._within_limit()
        while self._read():
            self._within_limit()
        how = self._how()
        return Result(self._process.returncode == 0, self.unread, how, self.refused)

    def _read(self) -> bool:
        self._wait(self._stdout, select.POLLIN)
        data = os.read(self._stdout, _CHUNK)
        self._received += len(data)
        self.unread += data
        return bool(data)

    def _within_limit(self) -> None:
        """Raise Ended for too much output, except while a complete line is still waiting to be read."""
        if self._received > self._limits.output:
            raise Ended(f"was stopped: it printed more than {self._limits.output >> 10} KiB")

    def _wait(self, pipe: int, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            raise Ended(f"was stopped after {self._limits.seconds:g} s")

    def _how(self) -> str:
        """How it ended, once its pipes are closed: a program can close them and keep running."""
        left = min(1.0, max(0.0, self._deadline - time.monotonic()))
        try:
            status = self._process.wait(left)
        except subprocess.TimeoutExpired:
            return "was stopped: it closed its output and kept running"
        if status >= 0:
            return f"ended with status {status}"
        if -status in (Signals.SIGXCPU, Signals.SIGKILL):
            return f"was killed after {self._limits.cpu_s} s of CPU, or because memory ran out"
        return f"was killed by {Signals(-status).name}"


def run(
    program: Path,
    folder: Path | None = None,
    limits: Limits = USUAL,
    stdin: bytes = b"",
    weak: bool = False,
) -> Result:
    """Run a program to its end; its output includes errors.

    Raises as `started`; a program that exceeds a limit gives a Result without success.
    """
    with _started(program, folder, limits, weak, subprocess.STDOUT) as running:
        try:
            running.send(stdin)
            return running.rest()
        except Ended as ended:
            return Result(False, running.unread, str(ended), running.refused)


@contextmanager
def started(
    program: Path,
    folder: Path | None = None,
    limits: Limits = USUAL,
    weak: bool = False,
) -> Iterator[Running]:
    """A confined Python program, one process with one thread, killed at the end of the context.

    It can read `folder`, its working directory, and Python's own library. It cannot write files, start
    processes, or reach the network, another process, or this process's memory. Its environment is empty.
    Its stderr is discarded. With `weak` it also runs where the kernel does not support all of that.

    Raises:
        Stop: when the process cannot be confined, and the program was not started.
    """
    with _started(program, folder, limits, weak, subprocess.DEVNULL) as running:
        yield running


@contextmanager
def _started(
    program: Path, folder: Path | None, limits: Limits, weak: bool, stderr: int
) -> Iterator[Running]:
    rules = policy.ruleset([folder.resolve()] if folder is not None else [])
    code = policy.filter_program()
    order = {
        "program": str(program.absolute()),
        "folder": str(folder.resolve()) if folder is not None else None,
        "ruleset": rules.fileno() if rules is not None else None,
        "filter": base64.b64encode(code).decode() if code is not None else None,
        "parent": os.getpid(),
        "limits": {"cpu_s": limits.cpu_s, "memory": limits.memory},
        "weak": weak,
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", confined.__file__, json.dumps(order)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            cwd=folder if folder is not None else "/", env={}, start_new_session=True,
            pass_fds=(rules.fileno(),) if rules is not None else (),
        )  # fmt: skip
    finally:
        if rules is not None:
            rules.close()
    with process:
        try:
            running = Running(process, limits)
            _check(running, weak)
            yield running
        finally:
            process.kill()
            if weak:  # then it may have started others
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, Signals.SIGKILL)


def _check(running: Running, weak: bool) -> None:
    """Raise Stop unless the process reports that it is confined; until then it has run no untrusted code."""
    try:
        running.refused = tuple(json.loads(running.line())["refused"])
    except Ended as ended:
        raise Stop(f"generated code was not run: its process {ended} before it was confined") from None
    except ValueError:
        raise Stop("generated code was not run: its process failed before it was confined") from None
    if running.refused and not weak:
        raise Stop(f"generated code was not run: this machine has {_none_of(running.refused)}")


def _none_of(parts: tuple[str, ...]) -> str:
    return ", ".join(part if part.startswith("no ") else f"no {part}" for part in parts)
