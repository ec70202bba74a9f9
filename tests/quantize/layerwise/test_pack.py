"""Weights of a layer to codes and scales: the bytes of the number format, linear by linear."""

import numpy as np
import pytest
import torch

from proofcard import nvfp4
from proofcard.errors import Stop
from proofcard.quantize.layerwise.pack import packed

LINEARS = ["a.w1", "a.w3", "a.w2"]


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    factors = zip(LINEARS, (1, 3, 2), strict=True)
    return {f"{name}.weight": (torch.randn(32, 64) * factor).bfloat16() for name, factor in factors}


def made(given: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return dict(packed(given, LINEARS, [("a.w1", "a.w3")], lambda _: None, threads=1))


def test_a_group_shares_its_largest_amax_and_others_have_their_own() -> None:
    given, tensors = weights(), made(weights())
    largest = {name: float(value.abs().max()) for name, value in given.items()}
    shared = nvfp4.weight_scale_2(max(largest["a.w1.weight"], largest["a.w3.weight"]))
    assert tensors["a.w1.weight_scale_2"] == tensors["a.w3.weight_scale_2"] == shared
    assert tensors["a.w2.weight_scale_2"] == nvfp4.weight_scale_2(largest["a.w2.weight"])
    for name in LINEARS:
        bits = given[f"{name}.weight"].view(torch.uint16).numpy()
        codes, scale = nvfp4.quantize(bits, tensors[f"{name}.weight_scale_2"])
        assert np.array_equal(tensors[f"{name}.weight"], codes)
        assert np.array_equal(tensors[f"{name}.weight_scale"], scale)


@pytest.mark.parametrize("wrong", ["dtype", "nan", "zero"])
def test_a_weight_that_gives_no_scale_is_named(wrong: str) -> None:
    given = weights()
    if wrong == "dtype":
        given["a.w2.weight"] = given["a.w2.weight"].float()
    elif wrong == "nan":
        given["a.w2.weight"][3, 3] = torch.nan
    else:
        given["a.w2.weight"].zero_()
    with pytest.raises(Stop, match=r"^a\.w2"):
        made(given)
