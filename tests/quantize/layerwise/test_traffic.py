"""Inputs in their order, outputs to the next layer's file; on a CPU each in its turn."""

from pathlib import Path

import pytest
import torch

from proofcard.errors import Stop
from proofcard.quantize.layerwise.hidden import Hidden
from proofcard.quantize.layerwise.traffic import Traffic

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_sent_comes_into_the_next_layer(tmp_path: Path, device: str) -> None:
    hidden = Hidden(tmp_path, [(1, 3)] * 4, 8, torch.bfloat16, 0)
    hidden.allocate()
    where = torch.device(device)
    with Traffic(hidden, 0, where) as first:
        assert [states for _, states in first.inputs(range(4))] == [None] * 4
        for number in range(4):
            first.send(number, torch.full((1, 3, 8), number, dtype=torch.bfloat16, device=where))
        first.finish()
    hidden.turn(1)
    with Traffic(hidden, 1, where) as second:
        came = dict(second.inputs(range(1, 4, 2)))
    assert came.keys() == {1, 3}
    assert all(states is not None and (states == number).all() for number, states in came.items())


def test_what_goes_wrong_on_the_way_is_raised(tmp_path: Path) -> None:
    hidden = Hidden(tmp_path, [(1, 3)], 8, torch.bfloat16, 0)
    hidden.allocate()
    with pytest.raises(Stop), Traffic(hidden, 0, torch.device("cpu")) as traffic:
        traffic.send(0, torch.zeros(1, 2, 8, dtype=torch.bfloat16))
        traffic.finish()
