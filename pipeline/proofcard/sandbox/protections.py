"""What this machine keeps confined code from: tried, not assumed."""

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
_KEPT_FROM = {
    "network": "no network",
    "read files": "no files but Python's own",
    "list folders": "no folders",
    "write files": "nothing written",
    "start processes": "no new processes",
    "signal other processes": "no other process reached",
    "use privileges": "no privileges",
}


@dataclass(frozen=True)
class Protections:
    """What confined code could do on this machine although it must not, and why.

    `refused` names parts of the sandbox that the kernel refused, `lacking` what this machine lacks for them.
    """

    possible: tuple[str, ...]
    refused: tuple[str, ...]
    lacking: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether all of the sandbox is in force and nothing was possible."""
        return not self.possible and not self.refused

    def sentence(self) -> str:
        """In one line: what generated code cannot do, what it can, its limits."""
        kept = [text for name, text in _KEPT_FROM.items() if name not in self.possible]
        line = f"generated code runs: {', '.join(kept)}; {USUAL.cpu_s} s of CPU, {USUAL.memory >> 30} GiB"
        return line if self.enough else f"{line}; a weak sandbox: {self.weakness()}"

    def weakness(self) -> str:
        """What is not enough, in words."""
        why = "; ".join(self.lacking) or f"the kernel or a container refuses {', '.join(self.refused)}"
        return f"it could {', '.join(self.possible) or 'use calls that are not filtered'} ({why})"


@cache
def protections() -> Protections:
    """Run a program that tries everything, confined as far as this machine can.

    Raises:
        Stop: when no process can be confined at all.
    """
    result = run(_TRIAL, stdin=f"{os.getpid()}\n".encode(), weak=True)
    if not result.succeeded:
        last = result.output.decode(errors="replace").strip().rpartition("\n")[2]
        raise Stop(f"generated code cannot be run here: the trial of the sandbox {result.how}: {last}")
    return Protections(tuple(json.loads(result.output)), result.refused, tuple(policy.lacking()))


def announce(mode: Mode, setting: str) -> None:
    """Print what generated code is kept from; `setting` is where a user chooses the mode.

    Raises:
        Usage: when that is not enough, and the mode is strict.
    """
    try:
        here = protections()
    except Stop as stop:
        raise Usage(str(stop)) from None
    if not here.enough and mode == "strict":
        raise Usage(
            f"this machine's sandbox does not hold generated code: {here.weakness()}. Go to another machine, "
            f"or run it all the same with {setting}=weak"
        )
    console.print(here.sentence(), markup=False, soft_wrap=True)
