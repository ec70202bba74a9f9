"""Runs untrusted code in a process that the kernel isolates from everything else."""

from proofcard.sandbox.protections import Mode, announce
from proofcard.sandbox.run import Ended, Limits, Result, Running, run, started

__all__ = ["Ended", "Limits", "Mode", "Result", "Running", "announce", "run", "started"]
