"""A stage as a child process: one command of proofcard, with our terminal, and stopped when we are."""

import ctypes
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Literal

from proofcard import children, interrupts, screen

_PR_SET_PDEATHSIG = 1

Shows = Literal["all", "progress", "nothing"]
"""What is seen of a child: everything, standard error alone, or neither."""


def command(words: Sequence[str], processes: int = 1) -> str:
    """The command line to paste into a shell."""
    return shlex.join([*_launcher(processes), "proofcard", *words])


def ended(words: Sequence[str], processes: int = 1, shows: Shows = "all") -> int:
    """Run a command of proofcard to its end; returns its exit status, negative for a signal.

    Its tables go to standard output, or to standard error where ours is for JSON. An interrupt of ours, by
    Ctrl-C or SIGTERM, reaches it exactly once, and it is waited for; a second one kills it.

    Raises:
        KeyboardInterrupt: when we are interrupted; the child has ended.
    """
    argv = [*children.python("-m", "proofcard"), *words]
    if processes > 1:
        argv = [*children.python("-m", "torch.distributed.run"), *_launcher(processes)[1:], *argv]
    sys.stdout.flush()
    out = subprocess.DEVNULL if shows != "all" else sys.stderr.fileno() if screen.json_is_asked() else None
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL if shows == "nothing" else None,
        process_group=0, preexec_fn=_end_with_us,
        env=children.environment(secrets=True),  # it fetches from the hub and writes to MLflow
    ) as child:  # fmt: skip
        try:
            return child.wait()
        except KeyboardInterrupt as stop:
            # it ends itself in time
            interrupts.allow(math.inf, partial(os.killpg, child.pid, signal.SIGKILL))
            child.send_signal(getattr(stop, "number", signal.SIGINT))
            child.wait()
            raise


def _launcher(processes: int) -> list[str]:
    if processes == 1:
        return []
    return ["torchrun", f"--nproc-per-node={processes}", "--standalone", "--no-python"]


def _end_with_us() -> None:
    """Between fork and exec: SIGTERM when our process is killed and cannot pass anything on."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
