"""`verify`: from the command line to an exit status."""

from pipeline.config import VerifyConfig, compose
from pipeline.progress import console
from pipeline.verify import run as verify


def run(overrides: list[str]) -> int:
    """Compose and verify. Returns 0 verified, 1 differs, 2 not checked."""
    return verify(compose(VerifyConfig, "verify", overrides), console)
