"""A measurement of the null endpoint, and how to ask for one."""

import json
from pathlib import Path
from typing import NamedTuple

from running import ROOT

from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.documents.benchmark import Results

FIRST_S, EACH_S, TOKENS = 0.05, 0.02, 16
TOKENIZER = ROOT / "demo/model"


class Measured(NamedTuple):
    config: BenchmarkConfig
    folder: Path
    found: Results

    def aiperf_says(self, users: int, metric: str, figure: str) -> float:
        path = self.folder / f"client-1/phases/users-{users}/profile_export_aiperf.json"
        return float(json.loads(path.read_text())[metric][figure])


def on_null(url: str, *overrides: str) -> list[str]:
    return [
        f"endpoint={url}",
        f"tokenizer={TOKENIZER}",
        "tracking=off",
        "truth.known_answers=null",
        *overrides,
    ]
