"""Work in real processes of its own, forked from the test: for what several commands do at once."""

import os
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """Do it in a process of its own, and return at once; its id. Exit status 0 when it does not raise."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    """The exit status, when it has one; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
