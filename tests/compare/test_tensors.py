"""Tensors held against each other: which bytes differ, and how far."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.compare.tensors import Group, held

EXPERT = "model.layers.0.mlp.experts.0.w1.weight"
Sides = tuple[dict[str, Tensor], dict[str, Tensor]]


def read(folder: Path, **tensors: np.ndarray) -> dict[str, Tensor]:
    folder.mkdir()
    named = {name.replace("__", "."): np.asarray(values) for name, values in tensors.items()}
    save_file(named, folder / "model.safetensors")
    return read_folder(folder)


def compared(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[tuple[str, str, str], Group]:
    sums = [{name: tensor.sha256() for name, tensor in side.items()} for side in (a, b)]
    return held(a, b, (sums[0], sums[1]))


@pytest.mark.parametrize(
    ("one", "other", "steps", "differ"),
    [
        (1.0, np.nextafter(np.float32(1), np.float32(2)), 1, 1),
        (0.0, -0.0, 0, 1),
        (1.0, 2.0, 1 << 23, 1),
        (-1.0, -1.0, 0, 0),
    ],
)
def test_the_distance_is_in_units_of_the_last_place(
    tmp_path: Path, one: float, other: float, steps: int, differ: int
) -> None:
    a = read(tmp_path / "a", norm__weight=np.array([3, one], np.float32))
    b = read(tmp_path / "b", norm__weight=np.array([3, other], np.float32))
    [group] = compared(a, b).values()
    assert (group.steps, group.differ) == (steps, differ)


def test_bytes_are_counted_and_ratios_are_of_single_values(tmp_path: Path) -> None:
    a = read(tmp_path / "a", x__input_scale=np.float32(2), x__weight=np.zeros((4, 4), np.uint8))
    changed = np.zeros((4, 4), np.uint8)
    changed[1, 2] = 7
    b = read(tmp_path / "b", x__input_scale=np.float32(3), x__weight=changed)
    groups = compared(a, b)
    assert sum(group.bytes_differ for group in groups.values() if not group.ratios) == 1
    [ratio] = [group.ratios for group in groups.values() if group.ratios]
    assert ratio == [1.5]


def test_a_tensor_of_one_side_alone_differs(tmp_path: Path) -> None:
    a = read(tmp_path / "a", x__weight=np.zeros(4, np.uint8))
    [((_, of_a, of_b), group)] = compared(a, {}).items()
    assert (of_a, of_b, group.differ, group.bytes_b) == ("U8", "", 1, 0)


def test_the_counts_are_the_fields_of_a_document() -> None:
    counts = Group(tensors=2, ratios=[1.0, 3.0]).counts()
    assert counts["ratio"].values() == {"smallest": 1.0, "median": 2.0, "largest": 3.0}
    assert "ratio" not in Group().counts() and "ratios" not in counts
