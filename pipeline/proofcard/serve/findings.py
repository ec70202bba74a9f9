"""Problems that are known before an engine is started: errors and warnings."""

from collections.abc import Iterable
from dataclasses import dataclass

from proofcard.errors import Usage
from proofcard.progress import console


@dataclass(frozen=True)
class Finding:
    """One sentence: what is wrong and what to do. `refuses`: the engine must not be started."""

    refuses: bool
    sentence: str


def refusal(sentence: str) -> Finding:
    """A problem that prevents a start."""
    return Finding(True, sentence)


def warning(sentence: str) -> Finding:
    """A problem that changes what was requested."""
    return Finding(False, sentence)


def report(findings: Iterable[Finding]) -> list[str]:
    """Print every finding and return the warnings.

    Raises:
        Usage: with the first refusal, when there is one.
    """
    found = list(findings)
    refusals = [finding.sentence for finding in found if finding.refuses]
    warnings = [finding.sentence for finding in found if not finding.refuses]
    for sentence in refusals[1:]:
        console.print(f"refused: {sentence}", soft_wrap=True)
    for sentence in warnings:
        console.print(f"warning: {sentence}", soft_wrap=True)
    if refusals:
        raise Usage(refusals[0])
    return warnings
