"""`verify`: from the command line to an exit status."""

from proofcard.config import VerifyConfig, compose
from proofcard.errors import Stop, Usage
from proofcard.screen import Screen
from proofcard.verify import run as verify


def run(overrides: list[str]) -> int:
    """Compose and verify. Returns 0 verified, 1 differs, 2 not checked.

    Raises:
        Usage: when nothing could be checked.
    """
    config = compose(VerifyConfig, "verify", overrides)
    try:
        return verify(config, Screen())  # the outcome on stdout, progress on stderr
    except Stop as stop:
        raise Usage(str(stop)) from None
