"""Before a start: a checkpoint is served when it verifies, or when somebody says that it need not."""

from pathlib import Path

from proofcard import manifest
from proofcard.documents.verification import Verification
from proofcard.errors import Usage
from proofcard.files import exists
from proofcard.progress import console, shown


def require(checkpoint: Path) -> Verification:
    """Hold the checkpoint to its seal, where it has one, and to its own configuration (level structure).

    Every byte of a sealed one is read: a minute or two for 100 GB.

    Raises:
        Usage: when it differs, or could not be checked.
    """
    from proofcard.verify import judged

    levels = ("integrity", "structure") if exists(checkpoint / manifest.NAME) else ("structure",)
    outcome = judged(checkpoint, levels)
    if outcome.result == "verified":
        console.print(f"verified: {shown(checkpoint)}, {' and '.join(levels)}", soft_wrap=True)
        return outcome
    raise Usage(
        f"{shown(checkpoint)} does not verify: {_why(outcome)}; see all of it with proofcard verify "
        f"checkpoint={shown(checkpoint)} levels=[{','.join(levels)}], or serve it unverified with verify=off"
    )


def _why(outcome: Verification) -> str:
    """The first difference, or why it could not be checked."""
    for name, level in outcome.levels.items():
        if level.differences.total:
            first = level.differences.listed[0]
            where = first.tensor or first.file or "the checkpoint"
            more = f" (and {level.differences.total - 1} more)" if level.differences.total > 1 else ""
            return f"{name} differs: {where}: {first.message}{more}"
    for name, level in outcome.levels.items():
        if level.unchecked.total:
            return f"{name} could not be checked: {level.unchecked.listed[0]}"
    return outcome.result
