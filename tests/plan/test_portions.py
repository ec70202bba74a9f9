"""Layers shared out over processes: in order, and never silently incomplete."""

import os
import signal
from typing import Any

import pytest

from proofcard.errors import Stop
from proofcard.plan import portions


def test_a_small_model_gets_one_process_and_a_large_one_several() -> None:
    cores = len(os.sched_getaffinity(0))
    assert portions.shares(3, 500) == [range(3)]
    large = portions.shares(62, 65_000)
    assert len(large) == min(cores, 3)
    assert [layer for share in large for layer in share] == list(range(62))


def test_what_lies_outside_the_layers_comes_once_and_where_it_was() -> None:
    first = [["embed", 1], ["layers.0.a", 2], ["layers.1.a", 3], ["norm", 4]]
    second = [["embed", 1], ["layers.2.a", 5], ["norm", 4]]
    whole = [first[0], first[1], first[2], second[1], first[3]]
    assert list(portions.in_order([first, second], "layers")) == whole


def test_each_process_tells_what_it_found() -> None:
    found = portions.each([range(2), range(2, 3)], lambda layers: {"n": len(layers), "in": os.getpid()})
    assert [said["n"] for said in found] == [2, 1]
    assert os.getpid() not in {said["in"] for said in found}


def test_what_stops_one_process_stops_all() -> None:
    def look(layers: range) -> dict[str, Any]:
        raise Stop(f"layer {layers[0]} is wrong")

    with pytest.raises(Stop, match=r"^layer 0 is wrong$"):
        portions.each([range(2), range(2, 3)], look)


def test_a_process_that_was_killed_is_no_result() -> None:
    def look(layers: range) -> dict[str, Any]:
        if 2 in layers:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    with pytest.raises(Stop, match="ended with status -9: memory may have run out"):
        portions.each([range(2), range(2, 3)], look)
