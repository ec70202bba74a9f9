"""The process that runs an untrusted program in confinement. Uses the standard library only.

    python -I -S -B confined.py ORDER

ORDER is JSON: `program`, a Python file; `folder`, which it may read, or null; `ruleset`, a descriptor, or
null; `filter`, a seccomp program in Base64, or null; `parent`, who started this; `limits`; `weak`, whether to
go on where the kernel refuses one of them. The first line of the output is a JSON object, what is in `force`
and what was `refused`; nothing of the program runs before it. After it the output is the program's.
"""

import base64
import ctypes
import json
import os
import resource
import signal
import sys
import types
from pathlib import Path
from typing import Any

_PDEATHSIG, _SECCOMP, _NO_NEW_PRIVS = 1, 22, 38  # of prctl(2)
_MODE_FILTER = 2
_RESTRICT_SELF = 446  # landlock_restrict_self, on every architecture
_NEW_IPC, _NEW_USER, _NEW_NET = 0x08000000, 0x10000000, 0x40000000
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def main() -> None:
    """Confine this process, report it, run the program."""
    order = json.loads(sys.argv[1])
    program = order["program"]
    source = Path(program).read_bytes()
    _die_with(order["parent"])
    _limit(order["limits"])
    force, refused = _confine(order)
    os.write(1, json.dumps({"force": force, "refused": refused}).encode() + b"\n")
    if refused and not order["weak"]:
        os._exit(1)
    space = types.ModuleType("__main__")
    sys.modules["__main__"] = space
    sys.argv[:] = [program]
    if order["folder"] is not None:
        sys.path.insert(0, order["folder"])
    space.__dict__["__file__"] = program
    exec(compile(source, program, "exec"), space.__dict__)


def _die_with(parent: int) -> None:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the confinement was in force
        os._exit(1)


def _limit(limits: dict[str, int]) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _confine(order: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The protections in force, and the required ones that the kernel refused."""
    force = []
    if any(_libc.unshare(flags | _NEW_NET | _NEW_IPC) == 0 for flags in (_NEW_USER, 0)):
        force.append("namespaces")  # optional: the filter below suffices
    steps = (
        ("no new privileges", lambda: _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)),
        ("no capabilities", _drop_capabilities),
        ("landlock", lambda: _restrict(order["ruleset"])),
        ("seccomp", lambda: _filter(order["filter"])),
    )
    refused: list[str] = []
    for name, step in steps:
        (force if step() == 0 else refused).append(name)
    return force, refused


def _drop_capabilities() -> int:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice 32 bits
    return int(_libc.capset(header, none))


def _restrict(ruleset: int | None) -> int:
    if ruleset is None:
        return -1
    status = int(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return status


def _filter(program: str | None) -> int:
    if program is None:
        return -1
    code = ctypes.create_string_buffer(base64.b64decode(program))
    rules = _Filter((len(code) - 1) // 8, ctypes.addressof(code))
    return int(_libc.prctl(_SECCOMP, _MODE_FILTER, ctypes.byref(rules), 0, 0))


if __name__ == "__main__":
    main()
