"""A self-test that tries everything a confined program must not be able to do, and lists successes as JSON.

Run by `protections`; its input is the process id of its starter.
"""

import json
import os
import socket
import sys
from collections.abc import Callable


def main() -> None:
    """Try everything; whatever succeeds is unprotected on this machine."""
    starter = int(sys.stdin.readline())
    attempts: dict[str, Callable[[], object]] = {
        "network": _network,
        "read files": lambda: open("/etc/passwd", "rb").read(1),  # noqa: PTH123, SIM115
        "list folders": lambda: os.listdir("/"),  # noqa: PTH208
        "write files": _write,
        "start processes": _fork,
        "signal other processes": lambda: os.kill(starter, 0),
        "use privileges": lambda: os.chroot("/"),
    }
    possible = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        possible.append(name)
    print(json.dumps(possible))


def _network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))  # sends nothing; without a network there is no route


def _write() -> None:
    for folder in ("/tmp", "/var/tmp", "/dev/shm", os.getcwd()):  # noqa: PTH109
        path = f"{folder}/.proofcard-{os.getpid()}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:
            continue
        os.unlink(path)  # noqa: PTH108
        return
    raise PermissionError("nowhere")


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
