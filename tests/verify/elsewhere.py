"""`verify` as on a system that has nothing of Linux's own, and without numba: `python elsewhere.py WORD…`.

What macOS lacks is taken away, or fails as it would there; the path says which tests that serves.
"""

import errno
import fcntl
import os
import sys
import sysconfig

LINUX_ONLY = (
    "O_DIRECT", "O_TMPFILE", "O_PATH", "O_NOATIME", "copy_file_range", "eventfd", "fdatasync", "getrandom",
    "getxattr", "listxattr", "memfd_create", "pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate",
    "preadv", "pwritev", "sched_getaffinity", "sched_setaffinity", "setns", "setresuid", "splice",
    "timerfd_create", "unshare",
)  # fmt: skip


_flock = fcntl.flock


def no_locks(handle: int, kind: int) -> None:
    """Not for us; the hub's client has locks of its own, and macOS has this one."""
    if sys._getframe(1).f_globals["__name__"].startswith("proofcard"):
        raise OSError(errno.ENOTSUP, "Operation not supported")
    _flock(handle, kind)


def no_proc(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(("/proc", "/sys")):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(arguments[0]))
    if event == "import" and arguments[0] in ("landlockpy", "pyseccomp", "seccomp"):
        raise ImportError(f"there is no {arguments[0]} here")


def take_away() -> None:
    import huggingface_hub.file_download  # noqa: F401  (what others ask of the system is their business)
    import hydra  # noqa: F401
    import numpy  # noqa: F401
    import psutil  # noqa: F401
    import pydantic  # noqa: F401
    import rich.progress  # noqa: F401

    sysconfig.get_config_vars()  # of the interpreter, which is Linux's

    for name in LINUX_ONLY:
        if hasattr(os, name):
            delattr(os, name)
    fcntl.flock = no_locks
    sys.modules["numba"] = None  # type: ignore[assignment]
    sys.platform = "darwin"
    sys.addaudithook(no_proc)


if __name__ == "__main__":
    take_away()
    from proofcard.cli import main

    main()
