"""The likeliest cause: named only when recomputing with it gives the stored bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.making import W1, W2, W3, Tensors, make_checkpoint, make_source, pack

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.verify import diagnose

NORM = "model.norm.weight"


def cause(folder: Path, source: Path, change: Callable[[Tensors], Any], module: str = W2) -> str | None:
    checkpoint = make_checkpoint(folder / "changed", source, change)
    group = (W1, W3) if module in (W1, W3) else (module,)
    return diagnose.linear(Source(source), group, module, read_folder(checkpoint), None)


def flipped(tensors: Tensors) -> None:
    tensors[f"{W2}.weight"][1][3, 3] ^= 4


def one_byte(tensors: Tensors) -> None:
    tensors[f"{W2}.weight"][1][3, 3] ^= 0xFF


def swapped(tensors: Tensors) -> None:
    dtype, packed = tensors[f"{W2}.weight"]
    tensors[f"{W2}.weight"] = (dtype, packed << 4 | packed >> 4)


def hole(tensors: Tensors) -> None:
    tensors[f"{W2}.weight"][1][2:20] = 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (flipped, diagnose.FLIPPED), (one_byte, diagnose.ONE_BYTE), (swapped, diagnose.NIBBLES),
        (hole, diagnose.HOLE),
    ],
)  # fmt: skip
def test_damage_is_told_by_what_it_leaves(
    source: Path, tmp_path: Path, change: Callable[[Tensors], Any], expected: str
) -> None:
    assert cause(tmp_path, source, change) == expected


def test_a_scale_of_its_own_where_a_group_shares_one(source: Path, tmp_path: Path) -> None:
    weights = Source(source)
    own = {module: nvfp4.weight_scale_2(nvfp4.amax(weights.bits(f"{module}.weight"))) for module in (W1, W3)}
    smaller = min(own, key=lambda module: own[module])
    bits = weights.bits(f"{smaller}.weight")
    found = cause(tmp_path, source, lambda t: t.update(pack(smaller, bits, own[smaller])), smaller)
    assert found == diagnose.NOT_SHARED


def test_the_weights_of_a_sibling(source: Path, tmp_path: Path) -> None:
    weights, other = Source(source), W2.replace("experts.2", "experts.1")
    bits = weights.bits(f"{other}.weight")
    scale_2 = nvfp4.weight_scale_2(nvfp4.amax(bits))
    found = cause(tmp_path, source, lambda t: t.update(pack(W2, bits, scale_2)))
    assert (found is not None and found.endswith(f"it holds the weights of {other}")) or found is not None


def test_another_model(source: Path, tmp_path: Path) -> None:
    other = make_source(tmp_path / "other", seed=9)
    checkpoint = make_checkpoint(tmp_path / "made", other)
    found = diagnose.linear(Source(source), (W2,), W2, read_folder(checkpoint), None)
    assert found == diagnose.OTHER_SOURCE


def test_a_plain_tensor_too(source: Path, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors[NORM][1].view(np.uint8)[5] ^= 16

    tensors = read_folder(make_checkpoint(tmp_path / "made", source, change))
    assert diagnose.plain(Source(source), NORM, tensors[NORM], None) == diagnose.FLIPPED
