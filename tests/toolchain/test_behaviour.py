"""What each patch changes, and what it leaves alone, seen from outside in processes of their own."""

import os
import tempfile

import pytest

EXPERT = "model.layers.0.block_sparse_moe.experts.0.w1"
DRIVER = "Found no NVIDIA driver"

no_gpu = pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="about machines without a GPU")


@pytest.mark.parametrize("series", ["none", "as_published", "fixed"])
def test_imports_come_from_a_private_copy_in_children_too(seen, root, series):
    origin = seen[series]["origin"]
    assert origin["file"].startswith(f"{tempfile.gettempdir()}/proofcard-{os.geteuid()}-modelopt-")
    assert origin["child"] == origin["file"]
    assert origin["version"] == "0.43.0"


def test_0001_samples_come_from_a_seeded_shuffle(seen):
    assert seen["none"]["samples"]["rows"] == list(range(12))
    # What datasets 4.8.5 draws with seed 42; another version of it may draw other rows.
    drawn = [28, 55, 18, 24, 7, 17, 27, 50, 59, 39, 44, 5]
    assert seen["as_published"]["samples"]["rows"] == seen["fixed"]["samples"]["rows"] == drawn


@no_gpu
def test_0002_and_0003_fp8_layers_run_without_a_gpu(seen):
    for series in ("none", "as_published"):
        assert seen[series]["fp8"]["error"] == "AssertionError: Triton is not available"
        assert seen[series]["dequantization"]["differing"] is None
    # With a dequantization the card's patch is enough, and without it nothing is.
    assert "Expected a cuda device" in seen["none"]["helped"]["fp8"]["error"]
    assert "tensors" in seen["as_published"]["helped"]["fp8"]
    assert "tensors" in seen["fixed"]["fp8"]


def test_0003_dequantizes_by_the_rule_to_the_last_element(seen):
    assert seen["fixed"]["dequantization"] == {"differing": 0}


@no_gpu
def test_0004_no_driver_means_no_fp4(seen):
    assert seen["fixed"]["fp4"] == {"answer": False}
    for series in ("none", "as_published"):
        assert DRIVER in seen[series]["fp4"]["error"]
        assert DRIVER in seen[series]["bf16"]["error"]


def test_0005_resident_fp8_weights_give_the_bytes_of_a_bf16_model(seen):
    resident, dequantized = seen["fixed"]["fp8"]["tensors"], seen["fixed"]["bf16"]["tensors"]
    assert resident == dequantized
    assert resident[f"{EXPERT}.weight"][0] == "torch.uint8"
    assert resident["model.layers.0.self_attn.q_proj.weight"][0] == "torch.bfloat16"


@no_gpu
def test_0005_is_needed_for_that(seen):
    helped = seen["as_published"]["helped"]
    resident, dequantized = helped["fp8"]["tensors"], helped["bf16"]["tensors"]
    assert resident["model.layers.0.self_attn.q_proj.weight"][0] == "torch.float32"
    differing = {name.rpartition(".")[2] for name in resident if resident[name] != dequantized[name]}
    assert differing == {"weight", "weight_scale"}


def test_0006_masks_reach_the_model(seen):
    ids = [[[1, 2, 3], [0, 0, 4]], [[0, 5, 6]]]
    masks = [[[1, 1, 1], [0, 0, 1]], [[0, 1, 1]]]
    expected = [{"input_ids": i, "attention_mask": m} for i, m in zip(ids, masks, strict=True)]
    assert seen["fixed"]["masks"]["inputs"] == expected
    for series in ("none", "as_published"):
        assert seen[series]["masks"]["inputs"] == [{"input_ids": i} for i in ids]


def test_0007_only_declared_ties_are_dropped(seen):
    experts = [f"experts.{n}.w1.weight" for n in range(3)]
    assert seen["fixed"]["deduplication"] == {"kept": [*experts, "model.embed_tokens.weight"], "same": True}
    for series in ("none", "as_published"):  # two expert weights are lost
        assert seen[series]["deduplication"]["kept"] == [experts[0], "model.embed_tokens.weight"]


@no_gpu
def test_0007_in_a_whole_export(seen):
    fixed, published = seen["fixed"]["shared"]["tensors"], seen["as_published"]["helped"]["shared"]["tensors"]
    assert "lm_head.weight" not in fixed
    assert set(fixed) - set(published) == {"model.layers.1.input_layernorm.weight"}


def test_0008_block_scales_saturate(seen):
    for series, top in (("fixed", "448.0"), ("none", "nan"), ("as_published", "nan")):
        expected = {"dynamic": f"[[{top}, 3.0, 1.0]]", "static": f"[[{top}, 3.0, 6.0]]"}
        assert seen[series]["block_scales"] == expected


def test_0009_divides_as_a_cpu_always_did(seen):
    assert seen["fixed"]["division"] == {"differing": 0}


def test_0009_gives_a_gpu_the_bits_of_a_cpu(seen):
    if seen["fixed"]["devices"]["differing"] is None:
        pytest.skip("needs a GPU")
    assert seen["fixed"]["devices"] == {"differing": [0] * 5}
    assert seen["none"]["devices"]["differing"] > [0] * 5


@no_gpu
def test_a_bf16_model_gets_the_bytes_that_it_got_before(seen):
    """Nothing in `fixed` moves a byte of a plain export on a CPU; only the driver was missing."""
    fixed = seen["fixed"]["bf16"]["tensors"]
    assert len(fixed) == 2 * (3 * 3 * 4 + 4 + 1 + 2 + 2) + 3
    for series in ("none", "as_published"):
        assert seen[series]["helped"]["bf16"]["tensors"] == fixed
