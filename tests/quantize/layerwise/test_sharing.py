"""Ranks that hear of each other's maxima leave out more, and together record what one would alone."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proofcard.calibration.batches import Batch
from proofcard.errors import Stop
from proofcard.quantize.layerwise.observer import FORCED, Observer
from proofcard.quantize.layerwise.sharing import Sharing
from proofcard.quantize.layerwise.stretches import by_dataset, running, stretches
from proofcard.quantize.layerwise.structure import Layer
from proofcard.ranks import Ranks

LINEARS = ("a", "b", "c")


class Meeting:
    """Where the threads of some ranks take a maximum together."""

    def __init__(self, count: int) -> None:
        self.values: list[torch.Tensor] = []
        self._arrive, self._leave = threading.Barrier(count), threading.Barrier(count, self.values.clear)

    def largest(self, mine: torch.Tensor) -> None:
        self.values.append(mine)
        self._arrive.wait(30)
        all_of_them = torch.stack(list(self.values)).amax(dim=0)
        self._leave.wait(30)
        mine.copy_(all_of_them)


@dataclass(frozen=True)
class Together(Ranks):
    """A rank in this process."""

    reduce: Callable[[torch.Tensor], None] = field(default=lambda _: None)

    def largest_aside(self, values: torch.Tensor) -> None:
        self.reduce(values)


def layer() -> Layer:
    return Layer("layer", list(LINEARS), [], [])


def batch(dataset: str) -> Batch:
    ids = np.ones((1, 4), np.int64)
    return Batch(ids, ids, dataset)


class Rank:
    """The loop of one rank over its batches, with a screen that leaves out what is not above `largest`."""

    def __init__(self, ranks: Ranks, batches: list[Batch], values: torch.Tensor) -> None:
        self._batches, self._values, self._due = batches, values, stretches(batches)
        self._mine = iter(ranks.share(len(batches)))
        self.observer = Observer(layer(), torch.device("cpu"))
        self.others = Sharing(ranks, batches, self.observer)
        self.taken: list[torch.Tensor] = []
        self.recorded = 0

    def step(self) -> bool:
        """One batch, if there is one left."""
        if (number := next(self._mine, None)) is None:
            return False
        self._note(number)
        self.others.hear()
        self.observer.dataset = self._due[0].dataset
        largest = self.observer.largest(LINEARS)
        for place, name in enumerate(LINEARS):
            if largest is None or not self._values[number, place] <= largest[place]:
                self.observer.see(name, self._values[number, place : place + 1])
                self.recorded += 1
        self.observer.flush(FORCED)
        self.others.tell()
        return True

    def end(self) -> torch.Tensor:
        """The amax of each stretch."""
        self.others.finish()
        self._note(len(self._batches))
        return torch.stack(self.taken)

    def _note(self, before: int) -> None:
        while self._due and self._due[0].last < before:
            self.taken.append(self.observer.take(self._due.pop(0).dataset).amax(dim=0))


@settings(derandomize=False)
@given(st.data())
def test_the_statistics_are_those_of_one_rank_that_records_everything(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3), label="datasets")
    batches = [batch(str(name)) for name, length in enumerate(lengths) for _ in range(length)]
    drawn = st.lists(st.integers(0, 6), min_size=3, max_size=3)
    table = data.draw(st.lists(drawn, min_size=len(batches), max_size=len(batches)), label="values")
    values = torch.tensor(table, dtype=torch.float32)
    count = data.draw(st.integers(2, 3), label="ranks")
    meeting = Meeting(count)
    all_ranks = [Rank(Together(n, count, reduce=meeting.largest), batches, values) for n in range(count)]
    left = list(all_ranks)
    while left:
        one = data.draw(st.sampled_from(left), label="next")
        if not one.step():
            left.remove(one)
    found = torch.stack([one.end() for one in all_ranks]).amax(dim=0)
    ends = [-1, *(stretch.last for stretch in stretches(batches))]
    whole = torch.stack([values[a + 1 : b + 1].amax(dim=0) for a, b in pairwise(ends)])
    assert torch.equal(running(found, batches), running(whole, batches))
    assert torch.equal(by_dataset(found, batches), by_dataset(whole, batches))


def test_a_rank_leaves_out_what_another_has_recorded() -> None:
    meeting = Meeting(2)
    values = torch.tensor([[9.0, 1, 1], [1, 1, 1], [2, 1, 1], [8, 1, 1], [1, 1, 1], [1, 1, 1]])
    batches = [batch("one") for _ in range(4)] + [batch("two") for _ in range(2)]
    first, second = (Rank(Together(n, 2, reduce=meeting.largest), batches, values) for n in range(2))
    first.step()
    second.step()
    second.others.finish()
    before = second.recorded
    second.step()
    assert second.recorded == before  # 8 is below 9, which only the first has met
    second.step()
    assert second.recorded == before + len(LINEARS)  # of another dataset
    while first.step():
        pass
    assert first.end()[:, 0].amax() == 9
    assert second.end()[:, 0].amax() == 1


def test_a_lost_rank_ends_the_pass() -> None:
    def lost(_: torch.Tensor) -> None:
        raise Stop("rank 0 of 2 lost another rank")

    rank = Rank(Together(0, 2, reduce=lost), [batch("one")] * 4, torch.ones(4, 3))
    rank.step()
    with pytest.raises(Stop, match="lost another rank"):
        rank.others.finish()


def test_one_process_has_nobody_to_tell() -> None:
    rank = Rank(Ranks(), [batch("one")] * 4, torch.ones(4, 3))
    while rank.step():
        pass
    rank.end()
    assert rank.recorded == len(LINEARS)
