"""The locked-down process in which a model's code is tried.

    python -I -S runner.py FD < order         # standard library only

The order is `{"code", "holds", "word"}`. On the descriptor it says `{"word", "isolation"}` when the
assertions in `holds` hold after `code`, and `{"error"}` otherwise. Limits of the kernel bound time, memory,
files and processes; a network namespace of its own holds nothing but a loopback that is down, where the
kernel grants one; and an audit hook, which Python code cannot remove, refuses whatever reaches outside.
"""

import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

_CPU_S = 5
_MEMORY = 1 << 30  # bytes of address space
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # of unshare(2)
_REFUSED = (
    "socket.", "subprocess.", "ctypes.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system",
    "os.kill", "os.putenv", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown",
    "os.link", "os.symlink", "os.truncate", "os.utime", "os.setxattr", "os.listdir", "os.scandir", "shutil.",
    "signal.", "mmap.", "fcntl.", "ftplib.", "smtplib.", "urllib.", "webbrowser.", "sqlite3.", "syslog.",
    "pty.", "resource.", "sys.addaudithook", "sys.setprofile", "sys.settrace", "gc.", "code.__new__",
)  # fmt: skip

_UNSEEN = ("ctypes", "_ctypes", "_posixsubprocess", "_socket")  # what they do raises no event, or not always


def _main() -> None:
    channel = int(sys.argv[1])
    order = json.load(sys.stdin)
    isolation = _isolate()
    space: dict[str, Any] = {"__name__": "answer"}
    _limit()
    for name in _UNSEEN:
        sys.modules.pop(name, None)
    try:
        exec(compile(order["code"], "answer", "exec"), space)
        exec(compile(order["holds"], "holds", "exec"), space)
        said = {"word": order["word"], "isolation": isolation}
    except BaseException as error:  # of code that may do anything, SystemExit included
        said = {"error": _told(error, order["holds"])}
    os.write(channel, json.dumps(said).encode())
    os._exit(0)


def _told(error: BaseException, holds: str) -> str:
    """An error in words: the assertion that failed, or what the code raised."""
    trace = error.__traceback__
    while isinstance(error, AssertionError) and trace is not None:
        if trace.tb_frame.f_code.co_filename == "holds":
            return holds.splitlines()[trace.tb_lineno - 1].strip()
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:120]}"


def _isolate() -> str:
    """A network of our own, and what became of it in words."""
    libc = ctypes.CDLL(None, use_errno=True)
    granted = libc.unshare(_NEW_USER | _NEW_NET) == 0 or libc.unshare(_NEW_NET) == 0
    return "without a network" if granted else "sockets refused by Python alone"


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    library = Path(sys.base_prefix).resolve()

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode = values[0], values[1]
            reads = mode in (None, "r", "rb") and not values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (reads and isinstance(path, str) and Path(path).resolve().is_relative_to(library)):
                raise PermissionError(f"no file may be opened: {path!r}")
        elif event == "import" and values[0] in _UNSEEN:
            raise PermissionError(f"{values[0]} may not be imported")
        elif event.startswith(_REFUSED):
            raise PermissionError(f"{event} is refused")

    sys.addaudithook(hook)


if __name__ == "__main__":
    _main()
