"""`verify`: from the command line to an exit status."""

import re

from proofcard.config import VerifyConfig, compose
from proofcard.errors import Stop, Usage
from proofcard.screen import Screen
from proofcard.verify import run as verify


def run(overrides: list[str]) -> int:
    """Compose and verify. Returns 0 verified, 1 differs, 2 not checked.

    Raises:
        Usage: when nothing could be checked.
    """
    config = compose(VerifyConfig, "verify", [_listed(word) for word in overrides])
    try:
        return verify(config, Screen())  # the outcome on stdout, progress on stderr
    except Stop as stop:
        raise Usage(str(stop)) from None


def _listed(word: str) -> str:
    """`layers=0,17,61` as the list that it means: Hydra would take it for three commands."""
    return f"layers=[{word.removeprefix('layers=')}]" if re.fullmatch(r"layers=\d+(,\d+)*", word) else word
