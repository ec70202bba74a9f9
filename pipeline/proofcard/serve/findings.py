"""What is wrong with a start before it is tried: refused, or done with a warning."""

from collections.abc import Iterable
from dataclasses import dataclass

from proofcard.errors import Usage
from proofcard.progress import console


@dataclass(frozen=True)
class Finding:
    """One sentence: what is wrong and what to do. `refuses`: nothing may be started."""

    refuses: bool
    sentence: str


def refusal(sentence: str) -> Finding:
    """What cannot work."""
    return Finding(True, sentence)


def warning(sentence: str) -> Finding:
    """What works otherwise than it was asked."""
    return Finding(False, sentence)


def settle(findings: Iterable[Finding]) -> list[str]:
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
