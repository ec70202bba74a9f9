"""A program that a shell or a launcher starts by its name, in a process forked by fork_server.py.

    proofcard [ARGUMENT…]               with the server's address in PYTEST_FORK_SERVER
    python [-u] [-P] -m MODULE …        forked for the modules named here; any other Python is one of its own
    worker -u -c PROGRAM                one that runs tests, by the server named `workers` beside its folder

Standard files, arguments, folder, environment, signals and the exit status are those of the process that it
stands for, which ends when this one does.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MODULES = ("proofcard", "proofcard.tasks.harness", "submitit.core._submit")


def words() -> list[str]:
    """What is to be forked. Does not return where Python itself is asked for something else."""
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if name == "worker":
        return arguments[1:]
    if name != "python":
        return [str(Path(sys.executable).with_name(name)), *arguments]
    while arguments and arguments[0] in ("-u", "-P"):
        del arguments[0]
    if arguments[:1] == ["-m"] and arguments[1] in MODULES:
        return arguments
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


def asked(
    address: str, words: list[str], cwd: str, environment: dict[str, str], files: list[int]
) -> socket.socket:
    """A connection to a server that was asked to fork, with standard files; see fork_server.py."""
    request = json.dumps({"words": words, "cwd": cwd, "environment": environment}).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], files)
    connection.sendall(request)
    return connection


def main() -> None:
    said, environment = words(), dict(os.environ)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it is known to whom they are handed on
    workers = Path(sys.argv[0]).parent.with_name("workers")
    address = str(workers) if said[0] == "-c" else environment["PYTEST_FORK_SERVER"]
    with asked(address, said, str(Path.cwd()), environment, [0, 1, 2]) as server:
        answers = server.makefile()
        pid = int(answers.readline())

        def hand_on(number: int, _: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

        for number in SIGNALS:
            signal.signal(number, hand_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        status: int = json.loads(answers.readline())[0]
    if status < 0:
        if -status in SIGNALS:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
