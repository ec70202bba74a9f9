"""Which protections against untrusted code work on this machine: tested, not assumed."""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from proofcard.errors import Stop, Usage
from proofcard.progress import console
from proofcard.sandbox import policy
from proofcard.sandbox.run import USUAL, run

Mode = Literal["strict", "weak"]

_TRIAL = Path(__file__).with_name("trial.py")
_PREVENTED = {
    "network": "no network",
    "read files": "no files but Python's own",
    "list folders": "no folders",
    "write files": "nothing written",
    "start processes": "no new processes",
    "signal other processes": "no signals to other processes",
    "use privileges": "no privileges",
}


@dataclass(frozen=True)
class Protections:
    """What untrusted code could do on this machine although it must not, and why.

    `refused` lists parts of the sandbox that the kernel refused, `lacking` what is missing on this machine.
    """

    possible: tuple[str, ...]
    refused: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether all of the sandbox is in force and nothing was possible."""
        return not self.possible and not self.refused

    def sentence(self) -> str:
        """One line: what generated code cannot do, what it can, and its limits."""
        prevented = [text for name, text in _PREVENTED.items() if name not in self.possible]
        line = (
            f"generated code runs: {', '.join(prevented)}; {USUAL.cpu_s} s of CPU, {USUAL.memory >> 30} GiB"
        )
        return line if self.enough else f"{line}; a weak sandbox: {self.weakness()}"

    def weakness(self) -> str:
        """The weak points, in words."""
        why = "; ".join(self.missing) or f"the kernel or a container refuses {', '.join(self.refused)}"
        return f"it could {', '.join(self.possible) or 'use calls that are not filtered'} ({why})"


@cache
def protections() -> Protections:
    """Run a program that tries everything, confined as far as this machine allows.

    Raises:
        Stop: when no process can be confined at all.
    """
    result = run(_TRIAL, stdin=f"{os.getpid()}\n".encode(), weak=True)
    if not result.succeeded:
        last = result.output.decode(errors="replace").strip().rpartition("\n")[2]
        raise Stop(f"cannot run generated code: the sandbox self-test {result.how}: {last}")
    return Protections(tuple(json.loads(result.output)), result.refused, tuple(policy.lacking()))


def announce(mode: Mode, setting: str) -> None:
    """Print the protections against generated code; `setting` is the option that selects the mode.

    Raises:
        Usage: when they are not sufficient and the mode is strict.
    """
    try:
        machine = protections()
    except Stop as stop:
        raise Usage(str(stop)) from None
    if not machine.enough and mode == "strict":
        raise Usage(
            f"this machine's sandbox cannot contain generated code: {machine.weakness()}. Use another "
            f"machine, or run it anyway with {setting}=weak"
        )
    console.print(machine.sentence(), markup=False, soft_wrap=True)
