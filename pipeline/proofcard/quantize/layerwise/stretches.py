"""Where along the samples statistics are recorded, and what is derived from them.

A *stretch* is a run of batches of one dataset between two marks. Each is measured separately; the amax after
any number of samples, or over any one dataset, is a maximum over stretches, exact in any order.
"""

from dataclasses import dataclass

import torch

from proofcard.calibration.batches import Batch, dataset_names


@dataclass(frozen=True)
class Stretch:
    """Ends with batch `last`, after `samples` samples in all; `marked` if the running amax is reported."""

    last: int
    samples: int
    dataset: str
    marked: bool


def stretches(batches: list[Batch]) -> list[Stretch]:
    """The stretches in the order of the batches. Marks are at doublings of the samples and at the end."""
    result, samples, due = [], 0, 1
    for index, batch in enumerate(batches):
        samples += len(batch.input_ids)
        end = index == len(batches) - 1
        marked = samples >= due or end
        if marked:
            due = 2 * samples
        if marked or batches[index + 1].dataset != batch.dataset:
            result.append(Stretch(index, samples, batch.dataset, marked))
    return result


def marks(batches: list[Batch]) -> list[int]:
    """The numbers of samples after which the running amax is reported."""
    return [stretch.samples for stretch in stretches(batches) if stretch.marked]


def running(values: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    """The running maximum at each mark, [marks, …] from `values` [stretches, …]."""
    marked = [stretch.marked for stretch in stretches(batches)]
    return values.cummax(dim=0).values[marked]


def by_dataset(values: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    """The maximum over each dataset's stretches, [datasets, …] from `values` [stretches, …]."""
    return torch.stack([values[rows].amax(dim=0) for rows in _rows(batches)])


def sums_by_dataset(values: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    """The sum over each dataset's stretches, [datasets, …] from `values` [stretches, …]."""
    return torch.stack([values[rows].sum(dim=0) for rows in _rows(batches)])


def _rows(batches: list[Batch]) -> list[list[int]]:
    datasets = [stretch.dataset for stretch in stretches(batches)]
    return [[row for row, name in enumerate(datasets) if name == one] for one in dataset_names(batches)]
