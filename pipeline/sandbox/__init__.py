"""Where code that nobody has read runs: a process that the kernel keeps away from everything else."""

from pipeline.sandbox.protections import Mode, announce
from pipeline.sandbox.run import Ended, Limits, Result, Running, run, started

__all__ = ["Ended", "Limits", "Mode", "Result", "Running", "announce", "run", "started"]
