"""Where along the samples statistics are noted, and what follows from the notes.

A *stretch* is a run of batches of one dataset between two marks. Each is measured by itself; what any number
of samples, or any dataset alone, would have given is a maximum over stretches, exact in every order.
"""

from dataclasses import dataclass

import torch

from proofcard.calibration.batches import Batch, dataset_names


@dataclass(frozen=True)
class Stretch:
    """Ends with batch `last`, after `samples` samples in all; `marked` when their running amax is told."""

    last: int
    samples: int
    dataset: str
    marked: bool


def stretches(batches: list[Batch]) -> list[Stretch]:
    """In the order of the batches. Marks are at doublings of the samples and at the end."""
    found, samples, due = [], 0, 1
    for index, batch in enumerate(batches):
        samples += len(batch.input_ids)
        end = index == len(batches) - 1
        marked = samples >= due or end
        if marked:
            due = 2 * samples
        if marked or batches[index + 1].dataset != batch.dataset:
            found.append(Stretch(index, samples, batch.dataset, marked))
    return found


def marks(batches: list[Batch]) -> list[int]:
    """After how many samples the running amax is told."""
    return [stretch.samples for stretch in stretches(batches) if stretch.marked]


def running(noted: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    """The running maximum at each mark, [marks, …] of `noted` [stretches, …]."""
    marked = [stretch.marked for stretch in stretches(batches)]
    return noted.cummax(dim=0).values[marked]


def by_dataset(noted: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    """The maximum over each dataset's stretches, [datasets, …] of `noted` [stretches, …]."""
    return torch.stack([noted[rows].amax(dim=0) for rows in _rows(batches)])


def sums_by_dataset(noted: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    """The sum over each dataset's stretches, [datasets, …] of `noted` [stretches, …]."""
    return torch.stack([noted[rows].sum(dim=0) for rows in _rows(batches)])


def _rows(batches: list[Batch]) -> list[list[int]]:
    found = [stretch.dataset for stretch in stretches(batches)]
    return [[row for row, name in enumerate(found) if name == one] for one in dataset_names(batches)]
