"""What a confined process may do: a Landlock ruleset and a seccomp program, built here by their libraries.

Everything not listed is refused. `confined.py` only has to apply both.
"""

import errno
import os
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import landlockpy
from landlockpy import AccessFS, Ruleset, Scope

_READ = AccessFS.READ_FILE | AccessFS.READ_DIR
_LIBRARIES = (
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/etc/ld.so.cache",
)
_NIX = Path("/nix/store")  # a Python from there has its libraries in separate, world-readable folders

# What an interpreter needs to compute, to import its library and to use its pipes.
_CALLS = (
    "access", "brk", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range", "dup",
    "dup2", "dup3", "exit", "exit_group", "faccessat", "faccessat2", "fstat", "futex", "getcwd",
    "getdents64", "getegid", "geteuid", "getgid", "getpid", "getrandom", "getresgid", "getresuid",
    "getrusage", "gettid", "gettimeofday", "getuid", "lseek", "lstat", "madvise", "mmap", "mprotect",
    "mremap", "munmap", "nanosleep", "newfstatat", "poll", "ppoll", "pread64", "pselect6", "read",
    "readlink", "readlinkat", "readv", "restart_syscall", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sched_getaffinity", "sched_yield", "select", "sigaltstack", "stat", "sysinfo",
    "time", "times", "uname", "write", "writev",
)  # fmt: skip
_O_PATH, _TMPFILE = 0o10000000, 0o20000000
_NOT_READING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _O_PATH | _TMPFILE
_FCNTL = (0, 1, 2, 3, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_TCGETS = 0x5401  # what isatty() asks


def ruleset(folders: Iterable[Path]) -> Ruleset | None:
    """Landlock: read access to Python's own library and `folders`, nothing else; None without kernel support.

    The caller closes it.
    """
    try:
        rules = Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL)
    except landlockpy.LandlockError:
        return None
    for path in (*_python(), *folders):
        with suppress(FileNotFoundError):
            rules.allow_path(str(path), _READ if path.is_dir() else AccessFS.READ_FILE)
    return rules


def _python() -> set[Path]:
    """Python's library and the system libraries that its modules link."""
    paths = {Path(path) for path in _LIBRARIES}
    paths |= {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    paths.add(Path(sys.base_prefix) / "lib")
    if _NIX in Path(sys.base_prefix).resolve().parents:
        paths.add(_NIX)
    return paths


@cache
def filter_program() -> bytes | None:
    """Seccomp: a BPF program that allows the calls above and fails any other with EPERM.

    A call from another architecture's table kills the process. None if libseccomp is not installed.
    """
    try:
        import pyseccomp as seccomp
    except (RuntimeError, OSError):
        return None
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in _CALLS:
        rules.add_rule(seccomp.ALLOW, name)
    rules.add_rule(seccomp.ALLOW, "openat", seccomp.Arg(2, seccomp.MASKED_EQ, _NOT_READING, 0))
    # to read its own limits
    itself, no_new_limit = seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(2, seccomp.EQ, 0)
    rules.add_rule(seccomp.ALLOW, "prlimit64", itself, no_new_limit)
    rules.add_rule(seccomp.ALLOW, "ioctl", seccomp.Arg(1, seccomp.EQ, _TCGETS))
    for operation in _FCNTL:
        rules.add_rule(seccomp.ALLOW, "fcntl", seccomp.Arg(1, seccomp.EQ, operation))
    with os.fdopen(os.memfd_create("filter"), "rb") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def lacking() -> list[str]:
    """Which of the two this machine does not have, and how to get it."""
    missing = []
    if landlockpy.abi_version() < 1:
        missing.append("the kernel has no Landlock (Linux 5.13 or newer, started with that module)")
    if filter_program() is None:
        missing.append("libseccomp is not installed (Debian's and Ubuntu's package libseccomp2)")
    return missing
