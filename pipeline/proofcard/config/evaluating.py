"""What `evaluate` may be asked: which ways to run the checkpoint, on which texts, how many draws."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from proofcard.config.schema import Part, QuantizeConfig

CANDIDATE = re.compile(r"(w4a16|w4a4)(?:\+(kv|kv_affine|kv_one))?")
"""A way to run a checkpoint: see `proofcard.evaluate.candidates`."""


def _a_candidate(name: str) -> str:
    if CANDIDATE.fullmatch(name) is None:
        raise ValueError("w4a16 or w4a4, alone or with +kv, +kv_affine or +kv_one")
    return name


class Evaluation(Part):
    """`candidates` null: every one that the checkpoint has the scales for. Lengths in tokens.

    Texts are `rows` of each calibration dataset that the checkpoint was not calibrated with, or those of
    the file `text`. `routes` adds the two runs with replayed routes. On a GPU so many texts of one length run
    `together`: a matter of speed and memory, which changes no number.
    """

    name: str
    candidates: tuple[Annotated[str, AfterValidator(_a_candidate)], ...] | None = Field(min_length=1)
    routes: bool
    text: Path | None
    rows: int = Field(ge=1)
    sequence_length: int = Field(ge=2)
    seed: int = Field(ge=0)
    resamples: int = Field(ge=100, le=100_000)
    together: int = Field(ge=1)

    def identity(self) -> dict[str, Any]:
        """What is measured, whatever it is called and however many texts run together."""
        return {key: v for key, v in super().identity().items() if key not in ("name", "together")}


class EvaluateConfig(QuantizeConfig):
    """The whole of `evaluate`'s configuration: a recipe's model and datasets, a checkpoint and its source.

    `samples` is the sample set that calibrated the checkpoint, by default where `quantize` keeps it.
    """

    checkpoint: Path
    source: Path
    samples: Path | None
    report: Path | None
    evaluation: Evaluation
