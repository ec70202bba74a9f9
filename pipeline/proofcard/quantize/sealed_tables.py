"""The tables of a sealed checkpoint, read back as what calibration saw."""

import csv
import io
from pathlib import Path

import numpy as np

from proofcard.errors import Stop
from proofcard.files import read_bytes
from proofcard.quantize.statistics import Experts, Found
from proofcard.quantize.tables import AMAX, AMAX_AT, COVERAGE, DATASETS, ROUTED_FROM

_LARGEST = 256 << 20  # bytes of a table


def read(folder: Path, positions: int) -> Found:
    """The tables of a sealed checkpoint; `positions` stands in its manifest.

    Raises:
        Stop: when a table is missing, or is of a version that noted less.
    """
    try:
        header, rows = _read(folder / AMAX)
        marked = [column for column in header if column.startswith(AMAX_AT)]
        numbers = np.array([row[2:] for row in rows], np.float64)
        chosen, each = _read(folder / DATASETS)
        if [row[:2] for row in rows] != [row[:2] for row in each]:
            raise ValueError(f"{DATASETS} lists other quantizers than {AMAX}")
        natural, exported = header.index("natural_amax") - 2, header.index("exported_amax") - 2
        datasets = [name.removeprefix(AMAX_AT) for name in chosen[2:]]
        return Found(
            samples=[int(column.removeprefix(AMAX_AT)) for column in marked],
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
    first = header.index(f"{ROUTED_FROM}{datasets[0]}")
    blocks: dict[tuple[int, str], list[list[int]]] = {}
    for row in rows:
        counts = [int(row[3]), int(row[4]), *map(int, row[first : first + len(datasets)])]
        blocks.setdefault((int(row[0]), row[1]), []).append(counts)
    found = []
    for (layer, block), lines in blocks.items():
        table = np.array(lines, np.int64).T
        found.append(Experts(layer, block, table[0], table[1], table[2:]))
    return found
