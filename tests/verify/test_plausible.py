"""Scales that no calibration gives, whatever else holds."""

from pathlib import Path

import numpy as np
import pytest
from verify.making import W2, Verified, load, make_checkpoint, reseal, save

from proofcard.checkpoint.tensors import Tensor
from proofcard.verify import plausible

ONLY = ("structure",)
K = "model.layers.1.self_attn.k_proj"


def with_values(folder: Path, ending: str, value: float, shape: tuple[int, ...] = ()) -> Path:
    tensors = load(folder)
    for name in [name for name in tensors if name.endswith(ending)] or [ending]:
        tensors[name] = ("F32", np.full(shape, value, np.float32))
    save(folder, tensors, 2)
    return folder


@pytest.mark.parametrize(("ending", "value"), [
    (".k_scale", 3e38), (".v_scale", 1e20), (".k_scale", 1e-30), (".input_scale", 1e-30),
    (".input_scale", 1e9), (f"{W2}.input_scale", 1e-12), (f"{W2}.weight_scale_2", 1e-30),
    (f"{W2}.weight_scale_2", 1e6),
])  # fmt: skip
def test_a_scale_out_of_bounds(checkpoint: Path, ending: str, value: float) -> None:
    with_values(checkpoint, ending, value)
    found = Verified(checkpoint, None, ONLY)
    assert found.status == 1
    assert any("calibration never gives less than" in d["message"] for d in found.differences("structure"))


@pytest.mark.parametrize(("ending", "value"), [
    (".k_scale", 1.0), (".v_scale", 1e-3), (".input_scale", 1e-4), (".input_scale", 200.0),
])  # fmt: skip
def test_a_scale_within_bounds(checkpoint: Path, ending: str, value: float) -> None:
    assert Verified(with_values(checkpoint, ending, value), None, ONLY).status == 0


def test_every_bound_leaves_room_for_bf16_and_fp16_models() -> None:
    for factor, least, most in plausible.BOUNDS.values():
        assert least <= 2.0**-24 and most >= 65504 and factor in (448.0, 2688.0)


@pytest.mark.parametrize("linear", ["w1", "w3"])
def test_linears_with_one_input_have_one_input_scale(checkpoint: Path, linear: str) -> None:
    module = f"model.layers.0.block_sparse_moe.experts.0.{linear}.input_scale"
    found = Verified(with_values(checkpoint, module, 0.011), None, ONLY)
    assert found.status == 1
    assert "both must be equal" in found.first("structure")["message"]


@pytest.mark.parametrize("size", [100.0, np.inf, np.nan])
@pytest.mark.parametrize("sealed", [True, False])
def test_biases_beside_a_plain_fp8_cache(tmp_path: Path, source: Path, size: float, sealed: bool) -> None:
    checkpoint = make_checkpoint(tmp_path / "made", source)
    with_values(checkpoint, f"{K}.k_bias", size, (64,))
    reseal(checkpoint, source, {"kv_cache": {"format": "fp8"}} if sealed else {})
    found = Verified(checkpoint, None, ONLY)
    assert found.status == 1
    assert f"{K}.k_bias" in {d["tensor"] for d in found.differences("structure")}


def test_biases_of_an_affine_cache_hold_with_a_note(tmp_path: Path, source: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "made", source)
    with_values(checkpoint, f"{K}.k_bias", 2.0, (64,))
    reseal(checkpoint, source, {"kv_cache": {"format": "fp8_affine"}})
    found = Verified(checkpoint, None, ONLY)
    assert found.status == 0, found.screen
    assert any("no known engine reads them" in note for note in found.level("structure")["notes"])


def test_block_scales_that_do_not_belong_to_their_second_scale(checkpoint: Path) -> None:
    """Of `max` calibration each fused group reaches 448; one that does not was scaled by hand."""
    tensors = load(checkpoint)
    dtype, codes = tensors[f"{W2}.weight_scale"]
    tensors[f"{W2}.weight_scale"] = (dtype, np.minimum(codes, 0x76))  # at most 224
    save(checkpoint, tensors, 2)
    found = Verified(checkpoint, None, ONLY).first("structure")
    assert (found["tensor"], found["found"]) == (f"{W2}.weight_scale", "224")
    assert "weight_scale_2 is too large for it" in found["message"]


def test_a_group_is_judged_by_what_others_do_only_where_they_are_many() -> None:
    largest = plausible.BlockScales()
    for number in range(3):
        largest.add(f"a.{number}.w", np.array([0x70], np.uint8))  # 128
    assert list(largest.judge([(f"a.{number}.w",) for number in range(3)])) == []
    largest.add("a.3.w", np.array([0x60], np.uint8))  # 32
    assert [f.tensor for f in largest.judge([(f"a.{n}.w",) for n in range(4)])] == ["a.3.w.weight_scale"]


def test_floats_of_both_dtypes() -> None:
    raw = np.array([0x80, 0x3F], np.uint8)
    one = Tensor("x", Path("x"), "BF16", (1,), 0, 2)
    assert plausible.floats(one, raw).tolist() == [1.0]
