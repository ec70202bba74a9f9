"""Seeded tamperings with a checkpoint: one small change each, and what a level cannot know of it.

`tamper` changes a copy and says what it did. Where a level has no means to see the change, it also says which
of `UNPROVEN` it belongs to; everything else must be caught.
"""

from collections.abc import Callable
from pathlib import Path

from verify import tampering_bytes, tampering_files, tampering_tensors
from verify.tampered import Done, Random

Tampering = Callable[[Path, Random], Done]
KINDS: dict[str, Tampering] = {
    name: function
    for module in (tampering_bytes, tampering_tensors, tampering_files)
    for name, function in vars(module).items()
    if getattr(function, "__module__", None) == module.__name__ and name[0] != "_" and name != "calibrated"
}


def tamper(folder: Path, seed: int) -> Done:
    """One change to a copy made by `copy`, drawn by `seed`."""
    chance = Random(seed)
    name = sorted(KINDS)[seed % len(KINDS)]
    done = KINDS[name](folder, chance)
    return Done(f"{name}: {done.what}", done.unproven)
