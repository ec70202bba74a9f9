"""The plan of the published card's recipe as `plan` counted it, with the configuration composed now."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from proofcard.config import QuantizeConfig, compose

RECIPE = "minimax_m2_7_nvfp4_as_run"


@cache
def _text() -> str:
    values = json.loads(Path(__file__).with_name(f"{RECIPE}.plan.json").read_text())
    config = compose(QuantizeConfig, "config", [f"recipe={RECIPE}"])
    return json.dumps(values | {"config": config.identity()})


def plan() -> dict[str, Any]:
    """A copy of it, to be changed."""
    values: dict[str, Any] = json.loads(_text())
    return values


def written(folder: Path) -> Path:
    """It as a file."""
    path = folder / "as_run.plan.json"
    path.write_text(_text())
    return path
