"""What calibration saw as tables, sealed with the checkpoint; `analyse` reads them back.

An amax is written with as many digits as tell it from every other float.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from proofcard.quantize.statistics import Found

COVERAGE = "calibration_coverage.csv"
AMAX = "calibration_amax.csv"
DATASETS = "calibration_datasets.csv"
AMAX_AT = "amax@"  # a column: after so many samples, or of a dataset
ROUTED_FROM = "routed@"  # a column: the positions of a dataset


def write(folder: Path, found: Found) -> list[Path]:
    """Write two tables of quantizers, and one of experts if there are any; returns their paths."""
    quantizers = list(zip(found.layers.tolist(), found.names, strict=True))
    header = ["layer", "quantizer", *(f"{AMAX_AT}{count}" for count in found.samples)]
    values = zip(
        quantizers, found.measured.tolist(), found.natural.tolist(), found.exported.tolist(), strict=True
    )
    tables = [
        _write(
            folder / AMAX,
            [*header, "natural_amax", "exported_amax"],
            ([*which, *curve, natural, exported] for which, curve, natural, exported in values),
        ),
        _write(
            folder / DATASETS,
            ["layer", "quantizer", *(f"{AMAX_AT}{name}" for name in found.datasets)],
            ([*which, *each] for which, each in zip(quantizers, found.of_dataset.tolist(), strict=True)),
        ),
    ]
    if found.experts:
        header = ["layer", "block", "expert", "routed_positions", "forced_positions"]
        header += [*(f"{ROUTED_FROM}{name}" for name in found.datasets), "cold"]
        tables.append(_write(folder / COVERAGE, header, _experts(found)))
    return tables


def _experts(found: Found) -> Iterator[list[Any]]:
    for block in found.experts:
        counts = zip(block.routed.tolist(), block.forced.tolist(), block.by_dataset.T.tolist(), strict=True)
        for expert, (routed, forced, each) in enumerate(counts):
            yield [block.layer, block.block, expert, routed, forced, *each, int(routed == 0)]


def _write(path: Path, header: list[str], rows: Iterable[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
    return path
