"""`quantize`: from a recipe's name to a sealed checkpoint.

uv run proofcard quantize                 # recipe=demo
uv run proofcard quantize recipe=…
"""

from proofcard.config import QuantizeConfig, compose
from proofcard.quantize.pipeline import execute


def run(overrides: list[str]) -> int:
    """Compose the overrides and `execute` what they ask for. Returns 0. Raises as `execute`."""
    return execute(compose(QuantizeConfig, "config", overrides))
