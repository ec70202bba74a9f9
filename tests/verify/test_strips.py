"""What is compared strip by strip has the outcome of the whole, in memory that does not grow with it."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.making import W2, Verified, load, make_checkpoint, make_source, reseal, save

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.checkpoint.writer import Entry, Writer, layout
from proofcard.verify import strips

ONLY = ("weights",)
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(params=[1, 1 << 10, 1 << 11])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a few rows."""
    monkeypatch.setattr(strips, "_STRIP", request.param)
    monkeypatch.setattr(strips, "_PIECE", 24)
    monkeypatch.setattr("proofcard.verify.packed._follows_max", lambda *_: pytest.fail("taken whole"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fp8", [True, False])
def test_it_holds_in_strips_of_any_height(tmp_path: Path, fp8: bool) -> None:
    source = make_source(tmp_path / "source", fp8=fp8)
    verified = Verified(make_checkpoint(tmp_path / "made", source), source, ONLY)
    assert verified.status == 0, verified.screen


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", [f"{W2}.weight", f"{W2}.weight_scale", Q_PROJ, "lm_head.weight"])
@pytest.mark.parametrize("at", [0, -1])
def test_a_byte_of_any_strip_is_found(checkpoint: Path, source: Path, name: str, at: int) -> None:
    tensors = load(checkpoint)
    raw = tensors[name][1].view(np.uint8).reshape(-1)
    raw[at] ^= 1
    save(checkpoint, tensors, 2)
    reseal(checkpoint, source)
    (found,) = Verified(checkpoint, source, ONLY).differences("weights")
    assert (found["tensor"], found["offset"]) == (name, at % raw.size)


@pytest.mark.parametrize("size", range(18))
def test_equal_means_every_byte(size: int) -> None:
    one = np.arange(size, dtype=np.uint8)
    assert strips.equal(one, one.copy())
    assert not strips.equal(one, np.append(one, 0).astype(np.uint8))
    for at in range(size):
        other = one.copy()
        other[at] ^= 0x80
        assert not strips.equal(one, other)


def one_linear(folder: Path, rows: int, columns: int) -> tuple[Path, Path]:
    """A source in FP8 with one linear, and what follows from it."""
    random = np.random.default_rng(0)
    weight = random.integers(0, 0x70, (rows, columns), np.uint8)
    scale = np.full((rows // 128, columns // 128), 0.01, np.float32)
    shared = nvfp4.weight_scale_2(nvfp4.amax_fp8(weight, scale))
    packed, block_scale = nvfp4.quantize_fp8(weight, scale, shared)
    sides: list[list[tuple[str, str, Any]]] = [
        [("weight", "F8_E4M3", weight), ("weight_scale_inv", "F32", scale)],
        [
            ("weight", "U8", packed), ("weight_scale", "F8_E4M3", block_scale),
            ("weight_scale_2", "F32", np.array(shared)),
        ],
    ]  # fmt: skip
    for side, tensors in zip(("source", "made"), sides, strict=True):
        (folder / side).mkdir()
        entries = [Entry(f"a.{leaf}", dtype, bits.shape) for leaf, dtype, bits in tensors]
        with Writer(folder / side, layout(entries, 0)) as writer:
            writer.allocate()
            for leaf, _, bits in tensors:
                writer.write(f"a.{leaf}", bits)
    (folder / "source" / "config.json").write_text("{}")
    return folder / "source", folder / "made"


def test_a_large_linear_takes_the_memory_of_some_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "_STRIP", 1 << 17)
    source_folder, made = one_linear(tmp_path, 4096, 1024)
    source, stored = Source(source_folder), read_folder(made)
    own = {name.removeprefix("a."): tensor for name, tensor in stored.items()}
    assert strips.follow_max(source, ("a",), {"a": own}, False) == {"a": (True, False)}
    tracemalloc.start()
    try:
        strips.follow_max(source, ("a",), {"a": own}, False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20, "a quarter of the weight in FP8"


def test_what_has_no_strips_is_left_to_the_slower_way(tmp_path: Path) -> None:
    source_folder, made = one_linear(tmp_path, 128, 128)
    source = Source(source_folder)
    own = {name.removeprefix("a."): tensor for name, tensor in read_folder(made).items()}
    source.block = (64, 64)
    assert strips.follow_max(source, ("a",), {"a": own}, False) == {}
    del source.tensors["a.weight_scale_inv"]
    assert strips.follow_max(source, ("a",), {"a": own}, False) == {}


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 0.001])
def test_another_shared_scale_follows_from_no_amax(tmp_path: Path, value: float) -> None:
    """Not even one under which every code and block scale is right."""
    source_folder, made = one_linear(tmp_path, 256, 128)
    source = Source(source_folder)
    weight, scale_inv = source.tensors["a.weight"].bits(), source.tensors["a.weight_scale_inv"].bits()
    shared = np.float32(value)
    packed, scale = nvfp4.quantize_fp8(weight, scale_inv, shared if 0 < value < np.inf else np.float32(1))
    save(made, {
        "a.weight": ("U8", packed), "a.weight_scale": ("F8_E4M3", scale), "a.weight_scale_2": ("F32", shared),
    })  # fmt: skip
    (made / "model.safetensors").unlink()
    own = {name.removeprefix("a."): tensor for name, tensor in read_folder(made).items()}
    found = strips.follow_max(source, ("a",), {"a": own}, False)
    assert not found.get("a", (False, False))[0]
