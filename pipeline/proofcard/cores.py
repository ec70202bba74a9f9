"""How many processors this process may use."""

import os


def cores() -> int:
    """The processors that the system gives this process; all of the machine's where it cannot say."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
