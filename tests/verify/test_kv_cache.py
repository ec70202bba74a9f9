"""Scales of the KV cache: where the configuration and the recipe want them, and where they are too many."""

import pytest
from verify.naming import plain

from proofcard import manifest
from proofcard.checkpoint.tensors import Tensor
from proofcard.documents import Manifest
from proofcard.verify.inventory import Inventory
from proofcard.verify.kv_cache import check
from proofcard.verify.quantconfig import Declaration
from proofcard.verify.report import Level

ATTENTION = "model.layers.{}.self_attn"


def attention(layer: int, *scales: str) -> dict[str, Tensor]:
    at = ATTENTION.format(layer)
    projections = plain(f"{at}.k_proj.weight", 32, 64) | plain(f"{at}.v_proj.weight", 32, 64)
    for scale in scales:
        projections |= plain(f"{at}.{scale[0]}_proj.{scale}", dtype="F32")
    return projections


def sealed(kv_cache: str) -> Manifest:
    return manifest.sealed(
        {
            "schema": manifest.SCHEMA, "stage": "quantize", "key": "0" * 64, "inputs": {}, "seeds": {},
            "config": {"kv_cache": {"format": kv_cache}}, "toolchain": {}, "platform": {}, "statistics": {},
            "outputs": {"files": {}, "tensors": {}},
        }
    )  # fmt: skip


def judged(tensors: dict[str, Tensor], cache: str | None, recipe: Manifest | None = None) -> Level:
    level = Level("structure")
    check(Inventory(tensors), Declaration(config={"num_hidden_layers": 2}, cache=cache), recipe, level)
    return level


def test_scales_of_every_layer_are_as_they_should_be() -> None:
    tensors = attention(0, "k_scale", "v_scale") | attention(1, "k_scale", "v_scale")
    assert judged(tensors, "FP8").result == judged(tensors, "FP8", sealed("fp8")).result == "holds"


def test_a_layer_without_is_named() -> None:
    tensors = attention(0, "k_scale", "v_scale") | attention(1, "k_scale")
    [finding] = judged(tensors, "FP8").findings
    assert (finding.kind, finding.tensor) == ("missing", f"{ATTENTION.format(1)}.v_proj.v_scale")


def test_scales_of_a_cache_that_is_not_quantized_are_too_many() -> None:
    level = judged(attention(0, "k_scale"), None)
    assert level.kinds == {"extra": 1}


@pytest.mark.parametrize(("recipe", "result"), [("fp8_cast", "holds"), ("fp8", "differs")])
def test_no_scale_at_all_is_what_fp8_cast_means(recipe: str, result: str) -> None:
    assert judged(attention(0), "FP8", sealed(recipe)).result == result
    assert judged(attention(0), "FP8").notes  # without a manifest it is said


def test_biases_belong_to_fp8_affine_alone() -> None:
    tensors = attention(0, "k_scale", "v_scale") | plain(f"{ATTENTION.format(0)}.k_proj.k_bias", 1, 2, 1, 16)
    assert judged(tensors, "FP8", sealed("fp8_affine")).result == "holds"
    assert judged(tensors, "FP8", sealed("fp8")).kinds == {"extra": 1}
