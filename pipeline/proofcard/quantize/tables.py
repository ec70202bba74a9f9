"""Calibration statistics as tables, sealed with the checkpoint; `analyse` reads them back.

An amax is written with enough digits to identify the exact float.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from proofcard.quantize.statistics import CalibrationStatistics

COVERAGE = "calibration_coverage.csv"
AMAX = "calibration_amax.csv"
DATASETS = "calibration_datasets.csv"
AMAX_AT = "amax@"  # a column: after that many samples, or of that dataset
ROUTED_FROM = "routed@"  # a column: the positions of a dataset


def write(folder: Path, stats: CalibrationStatistics) -> list[Path]:
    """Write two tables of quantizers, and one of experts if the model has any; returns their paths."""
    quantizers = list(zip(stats.layers.tolist(), stats.names, strict=True))
    header = ["layer", "quantizer", *(f"{AMAX_AT}{count}" for count in stats.samples)]
    values = zip(
        quantizers,
        stats.measured.tolist(),
        stats.natural.tolist(),
        stats.exported.tolist(),
        strict=True,
    )
    tables = [
        _write(
            folder / AMAX,
            [*header, "natural_amax", "exported_amax"],
            ([*quantizer, *curve, natural, exported] for quantizer, curve, natural, exported in values),
        ),
        _write(
            folder / DATASETS,
            ["layer", "quantizer", *(f"{AMAX_AT}{name}" for name in stats.datasets)],
            (
                [*quantizer, *each]
                for quantizer, each in zip(quantizers, stats.of_dataset.tolist(), strict=True)
            ),
        ),
    ]
    if stats.experts:
        header = ["layer", "block", "expert", "routed_positions", "forced_positions"]
        header += [*(f"{ROUTED_FROM}{name}" for name in stats.datasets), "cold"]
        tables.append(_write(folder / COVERAGE, header, _experts(stats)))
    return tables


def _experts(stats: CalibrationStatistics) -> Iterator[list[Any]]:
    for block in stats.experts:
        counts = zip(block.routed.tolist(), block.forced.tolist(), block.by_dataset.T.tolist(), strict=True)
        for expert, (routed, forced, each) in enumerate(counts):
            yield [block.layer, block.block, expert, routed, forced, *each, int(routed == 0)]


def _write(path: Path, header: list[str], rows: Iterable[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
    return path
