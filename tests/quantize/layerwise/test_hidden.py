"""Hidden states between layers: the same from memory and from disk, and refused when they do not fit."""

from pathlib import Path

import pytest
import torch

from proofcard.errors import Stop
from proofcard.quantize.layerwise.hidden import Hidden

SHAPES, WIDTH = [(2, 5), (1, 3)], 8


def hidden(folder: Path, memory: int = 0) -> Hidden:
    made = Hidden(folder, SHAPES, WIDTH, torch.bfloat16, memory)
    made.allocate()
    return made


def states(batch: int) -> torch.Tensor:
    torch.manual_seed(batch)
    return torch.randn(*SHAPES[batch], WIDTH).to(torch.bfloat16)


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_what_was_written_is_read_in_any_order(tmp_path: Path, memory: int) -> None:
    made = hidden(tmp_path, memory)
    for batch in (1, 0):
        made.write(1, batch, states(batch))
    made.turn(1)
    for batch in (0, 1):
        assert torch.equal(made.read(1, batch), states(batch))
    again = Hidden(tmp_path, SHAPES, WIDTH, torch.bfloat16, memory)  # as a later run
    assert again.holds(1) and torch.equal(again.read(1, 1), states(1))


def test_two_files_take_turns(tmp_path: Path) -> None:
    made = hidden(tmp_path)
    made.write(1, 0, states(0))
    made.write(2, 0, states(0) * 2)
    assert torch.equal(made.read(1, 0), states(0)) and torch.equal(made.read(2, 0), states(0) * 2)
    assert made.bytes == 2 * WIDTH * (2 * 5 + 3)
    made.remove()
    assert list(tmp_path.iterdir()) == []


def test_another_shape_or_dtype_and_a_short_file_are_refused(tmp_path: Path) -> None:
    made = hidden(tmp_path)
    for wrong in (states(0)[:, :4], states(0).float()):
        with pytest.raises(Stop, match="engine=modelopt"):
            made.write(1, 0, wrong)
    (tmp_path / "hidden-1").write_bytes(b"")
    assert not made.holds(1)
    with pytest.raises(Stop, match="hidden-1"):
        made.read(1, 0)
