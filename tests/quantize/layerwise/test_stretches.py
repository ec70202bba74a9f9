"""Stretches between marks and datasets: what follows from their notes is what whole runs would note."""

import numpy as np
import torch

from proofcard.calibration.batches import Batch
from proofcard.quantize.layerwise.stretches import by_dataset, marks, running, stretches, sums_by_dataset

NAMES = ["a", "a", "a+b", "b", "b", "b", "c", "a"]
ONES = np.ones((4, 2), np.int64)
BATCHES = [Batch(ONES, ONES, name) for name in NAMES]
SEEN = torch.tensor(np.random.default_rng(3).lognormal(size=(len(NAMES), 5)))


def noted() -> torch.Tensor:
    """The largest of each stretch's batches."""
    first, found = 0, []
    for stretch in stretches(BATCHES):
        found.append(SEEN[first : stretch.last + 1].amax(dim=0))
        first = stretch.last + 1
    assert first == len(BATCHES)
    return torch.stack(found)


def test_a_stretch_ends_at_marks_and_where_the_dataset_changes() -> None:
    assert [stretch.last for stretch in stretches(BATCHES)] == [0, 1, 2, 3, 5, 6, 7]
    assert [stretch.last for stretch in stretches(BATCHES) if stretch.marked] == [0, 1, 3, 7]
    assert marks(BATCHES) == [4, 8, 16, 32]
    assert marks(BATCHES[:7]) == [4, 8, 16, 28]


def test_the_running_amax_is_that_of_the_first_batches() -> None:
    expected = torch.stack([SEEN[: samples // 4].amax(dim=0) for samples in marks(BATCHES)])
    assert torch.equal(running(noted(), BATCHES), expected)


def test_a_dataset_s_amax_is_that_of_its_batches_wherever_they_are() -> None:
    rows = [[i for i, name in enumerate(NAMES) if name == one] for one in ("a", "a+b", "b", "c")]
    assert torch.equal(by_dataset(noted(), BATCHES), torch.stack([SEEN[row].amax(dim=0) for row in rows]))
    counts = torch.ones((7, 3), dtype=torch.int64)
    assert sums_by_dataset(counts, BATCHES)[:, 0].tolist() == [3, 1, 2, 1]


def test_what_is_not_finite_stays_so() -> None:
    lost = noted()
    lost[1, 2] = torch.nan
    assert running(lost, BATCHES)[-1].isnan().tolist() == [False, False, True, False, False]
    assert by_dataset(lost, BATCHES)[0].isnan().tolist() == [False, False, True, False, False]
