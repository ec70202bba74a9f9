"""What calibration saw as tables, sealed with the checkpoint and read back to be analysed.

An amax is written with as many digits as tell it from every other float.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proofcard.errors import Stop
from proofcard.files import read_bytes
from proofcard.quantize.statistics import Experts, Found

COVERAGE = "calibration_coverage.csv"
AMAX = "calibration_amax.csv"
DATASETS = "calibration_datasets.csv"
_LARGEST = 256 << 20  # bytes of a table
_AT = "amax@"
_FROM = "routed@"


def write(folder: Path, found: Found) -> list[Path]:
    """Write two tables of quantizers, and one of experts if there are any; returns their paths."""
    quantizers = list(zip(found.layers.tolist(), found.names, strict=True))
    header = ["layer", "quantizer", *(f"{_AT}{count}" for count in found.samples)]
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
            ["layer", "quantizer", *(f"{_AT}{name}" for name in found.datasets)],
            ([*which, *each] for which, each in zip(quantizers, found.of_dataset.tolist(), strict=True)),
        ),
    ]
    if found.experts:
        header = ["layer", "block", "expert", "routed_positions", "forced_positions"]
        header += [*(f"{_FROM}{name}" for name in found.datasets), "cold"]
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


def read(folder: Path, positions: int) -> Found:
    """The tables of a sealed checkpoint; `positions` stands in its manifest.

    Raises:
        Stop: when a table is missing, or is of a version that noted less.
    """
    try:
        header, rows = _read(folder / AMAX)
        marked = [column for column in header if column.startswith(_AT)]
        numbers = np.array([row[2:] for row in rows], np.float64)
        chosen, each = _read(folder / DATASETS)
        if [row[:2] for row in rows] != [row[:2] for row in each]:
            raise ValueError(f"{DATASETS} lists other quantizers than {AMAX}")
        natural, exported = header.index("natural_amax") - 2, header.index("exported_amax") - 2
        datasets = [name.removeprefix(_AT) for name in chosen[2:]]
        return Found(
            samples=[int(column.removeprefix(_AT)) for column in marked],
            positions=positions,
            datasets=datasets,
            experts=_read_experts(folder / COVERAGE, datasets) if (folder / COVERAGE).exists() else [],
            layers=np.array([int(row[0]) for row in rows]),
            names=[row[1] for row in rows],
            measured=numbers[:, : len(marked)],
            of_dataset=np.array([row[2:] for row in each], np.float64),
            natural=numbers[:, natural],
            exported=numbers[:, exported],
        )
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise Stop(f"{folder} has no {missing}: quantize with engine=layerwise and this version") from None
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        raise Stop(f"the tables of {folder} are not what this version writes ({error})") from None


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    text = read_bytes(path, path.parent, _LARGEST).decode()
    table = csv.reader(io.StringIO(text, newline=""))
    return next(table), list(table)


def _read_experts(path: Path, datasets: list[str]) -> list[Experts]:
    header, rows = _read(path)
    first = header.index(f"{_FROM}{datasets[0]}")
    blocks: dict[tuple[int, str], list[list[int]]] = {}
    for row in rows:
        counts = [int(row[3]), int(row[4]), *map(int, row[first : first + len(datasets)])]
        blocks.setdefault((int(row[0]), row[1]), []).append(counts)
    found = []
    for (layer, block), lines in blocks.items():
        table = np.array(lines, np.int64).T
        found.append(Experts(layer, block, table[0], table[1], table[2:]))
    return found
