"""Two checkpoints of one source after dequantization: the sums are those of plain numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.dialects import DIALECTS, make
from verify.making import load, make_source

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.compare import closeness, closer
from proofcard.documents.comparison import Closeness
from proofcard.nvfp4 import bf16_to_f32, e4m3_to_f32

VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
W2 = "model.layers.1.block_sparse_moe.experts.2.w2"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "model", "mixtral", fp8=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, source: Path) -> dict[str, Path]:
    room = tmp_path_factory.mktemp("made")
    names = ("modelopt W4A16", "modelopt searched", "llm-compressor", "auto-round", "llm-compressor mixed")
    return {name: make(room / name.replace(" ", "_"), source, name) for name in names}


def compared(a: Path, b: Path, source: Path | None) -> Closeness:
    found = closeness.between(read_folder(a), read_folder(b), Source(source) if source else None)
    assert found is not None
    return found


def plain(folder: Path, dialect: str, module: str) -> np.ndarray:
    """float64, by hand."""
    tensors, said = load(folder), DIALECTS[dialect]
    codes, scales, shared, _ = (f"{said.name(module)}.{leaf}" for leaf in said.rule.layout.leaves)
    packed = tensors[codes][1]
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    second = np.float64(tensors[shared][1].reshape(()))
    width = e4m3_to_f32(tensors[scales][1]).astype(np.float64) * (
        1 / second if said.rule.layout.divides else second
    )
    return VALUES[halves] * np.repeat(width, said.block, axis=1)


def test_the_sums_are_those_of_plain_numpy(made: dict[str, Path], source: Path) -> None:
    names = ("modelopt W4A16", "llm-compressor")
    told = compared(made[names[0]], made[names[1]], source)
    a, b = (plain(made[name], name, W2) for name in names)
    own = bf16_to_f32(load(source)[f"{W2}.weight"][1]).astype(np.float64)
    pair = next(each for each in told.linears if each.name == W2)
    assert pair.codes == own.size == pair.weights
    for have, want in (
        (pair.between, a - b),
        (pair.error_a, a - own),
        (pair.error_b, b - own),
        (pair.energy, own),
    ):
        assert have == pytest.approx((want**2).sum(), rel=1e-4)


def test_the_one_with_searched_scales_is_farther_here_and_said_so(
    made: dict[str, Path], source: Path
) -> None:
    told = compared(made["modelopt W4A16"], made["modelopt searched"], source)
    assert told.closer is not None and told.closer[0] > told.closer[1] == 0
    assert "a is closer to the source" in closer.sections(told)[0].said
    back = compared(made["modelopt searched"], made["modelopt W4A16"], source)
    assert "b is closer to the source" in closer.sections(back)[0].said


def test_names_of_one_are_those_of_the_other(made: dict[str, Path]) -> None:
    told = compared(made["llm-compressor"], made["modelopt W4A16"], None)
    assert any("w2" in line and "down_proj" in line for line in told.mappings)
    assert told.total.error_a is None and told.closer is None
    assert 0 < told.total.differ < told.total.codes / 10
    assert told.total.linears == len(told.linears)
    assert "a.linears" not in closer.sections(told)[0].said


def test_fp8_beside_nvfp4_is_closer_than_nvfp4(made: dict[str, Path], source: Path) -> None:
    told = compared(made["llm-compressor mixed"], made["llm-compressor"], source)
    kinds: dict[str, Any] = {each.name: each for each in told.kinds}
    attention = kinds["model.layers.#.self_attn.q_proj"]
    assert attention.codes == 0 and attention.error_a < attention.error_b / 4
    assert sum(each.linears for each in told.layers) == told.total.linears


def test_one_against_itself(made: dict[str, Path], source: Path) -> None:
    told = compared(made["auto-round"], made["auto-round"], source)
    assert told.total.differ == 0 and told.total.between == 0
    assert told.closer == (0, 0, told.total.linears)
    assert "equally close" in closer.sections(told)[0].said
