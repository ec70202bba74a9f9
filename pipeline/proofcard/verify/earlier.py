"""Earlier reports: a weaker outcome never replaces a stronger one of the same checkpoint."""

from pathlib import Path

from proofcard.documents.base import read
from proofcard.documents.verification import Verification
from proofcard.errors import Stop


def proves_more(path: Path, outcome: Verification) -> list[str]:
    """The levels that the report at `path` proves of the same manifest, and that `outcome` leaves open.

    None where there is no such report, and where something differs now: that is new evidence.
    """
    if outcome.result == "differs" or outcome.manifest is None:
        return []
    try:
        earlier = read(Verification, path)
    except (Stop, OSError):
        return []
    if earlier.manifest != outcome.manifest:
        return []
    now = {name for name, level in outcome.levels.items() if level.result == "holds"}
    before = [name for name, level in earlier.levels.items() if level.result == "holds"]
    return [name for name in before if name not in now]
