"""Reads the calibration statistics back from the tables of a sealed checkpoint."""

import csv
import io
from pathlib import Path

import numpy as np

from proofcard.errors import Stop
from proofcard.files import read_bytes
from proofcard.quantize.statistics import CalibrationStatistics, Experts
from proofcard.quantize.tables import AMAX, AMAX_AT, COVERAGE, DATASETS, ROUTED_FROM

_LARGEST = 256 << 20  # bytes of a table


def read(folder: Path, positions: int) -> CalibrationStatistics:
    """The statistics in a sealed checkpoint's tables; `positions` comes from its manifest.

    Raises:
        Stop: when a table is missing or was written by a version that recorded less.
    """
    try:
        header, rows = _read(folder / AMAX)
        mark_columns = [column for column in header if column.startswith(AMAX_AT)]
        numbers = np.array([row[2:] for row in rows], np.float64)
        dataset_header, dataset_rows = _read(folder / DATASETS)
        if [row[:2] for row in rows] != [row[:2] for row in dataset_rows]:
            raise ValueError(f"{DATASETS} does not list the same quantizers as {AMAX}")
        natural, exported = header.index("natural_amax") - 2, header.index("exported_amax") - 2
        datasets = [name.removeprefix(AMAX_AT) for name in dataset_header[2:]]
        return CalibrationStatistics(
            samples=[int(column.removeprefix(AMAX_AT)) for column in mark_columns],
            positions=positions,
            datasets=datasets,
            experts=_read_experts(folder / COVERAGE, datasets) if (folder / COVERAGE).exists() else [],
            layers=np.array([int(row[0]) for row in rows]),
            names=[row[1] for row in rows],
            measured=numbers[:, : len(mark_columns)],
            of_dataset=np.array([row[2:] for row in dataset_rows], np.float64),
            natural=numbers[:, natural],
            exported=numbers[:, exported],
        )
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise Stop(
            f"{folder} has no {missing}: quantize it again with engine=layerwise and this version"
        ) from None
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        raise Stop(
            f"the calibration tables in {folder} are damaged or from another version ({error})"
        ) from None


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    text = read_bytes(path, path.parent, _LARGEST).decode()
    table = csv.reader(io.StringIO(text, newline=""))
    return next(table), list(table)


def _read_experts(path: Path, datasets: list[str]) -> list[Experts]:
    header, rows = _read(path)
    first = header.index(f"{ROUTED_FROM}{datasets[0]}")
    blocks: dict[tuple[int, str], list[list[int]]] = {}
    for row in rows:
        counts = [int(row[3]), int(row[4]), *map(int, row[first : first + len(datasets)])]
        blocks.setdefault((int(row[0]), row[1]), []).append(counts)
    experts = []
    for (layer, block), lines in blocks.items():
        table = np.array(lines, np.int64).T
        experts.append(Experts(layer, block, table[0], table[1], table[2:]))
    return experts
