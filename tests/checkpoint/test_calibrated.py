"""Distances of calibrated tensors in steps of BF16, and scales found by their digest."""

import hashlib

import numpy as np
import pytest

from proofcard import nvfp4
from proofcard.checkpoint import calibrated

LINEAR = "model.layers.0.mlp.up_proj.input_scale"
KEYS = "model.layers.0.self_attn.k_proj.k_scale"
BIAS = "model.layers.0.self_attn.v_proj.v_bias"


def bf16(bits: int) -> np.float32:
    return np.array([bits << 16], np.uint32).view(np.float32)[0]


def test_a_scale_is_found_by_its_digest_for_every_amax_that_bf16_has() -> None:
    for bits in [0x0080, 0x7F7F, *range(0x3C00, 0x4600, 7)]:
        for name, formula in ((LINEAR, nvfp4.input_scale), (KEYS, nvfp4.kv_scale)):
            value = formula(bf16(bits)).tobytes()
            assert calibrated.recovered(name, hashlib.sha256(value).hexdigest()) == value
            assert calibrated.amax(name, value) == pytest.approx(float(bf16(bits)), rel=1e-6)


def test_what_is_no_scale_of_a_bf16_amax_is_not_found() -> None:
    odd = nvfp4.input_scale(np.float32(1.001)).tobytes()
    assert calibrated.recovered(LINEAR, hashlib.sha256(odd).hexdigest()) is None
    assert calibrated.recovered(KEYS, hashlib.sha256(nvfp4.input_scale(1.0).tobytes()).hexdigest()) is None
    assert calibrated.recovered(BIAS, "0" * 64) is None
    assert calibrated.recovered("model.norm.weight", "0" * 64) is None


@pytest.mark.parametrize("steps", [0, 1, 2, 17, 128, 4000])
@pytest.mark.parametrize("bits", [0x2000, 0x3F80, 0x3FFF, 0x4235])
def test_a_distance_counts_bf16_numbers_between_two_amaxes(bits: int, steps: int) -> None:
    for name, formula in ((LINEAR, nvfp4.input_scale), (KEYS, nvfp4.kv_scale)):
        one, other = (formula(bf16(b)).tobytes() for b in (bits, bits + steps))
        assert calibrated.distance(name, one, other) == calibrated.distance(name, other, one) == steps


def test_less_than_a_step_of_bf16_counts_as_one() -> None:
    one, other = (nvfp4.input_scale(np.float32(v)).tobytes() for v in (1.0, 1.0000001))
    assert one != other
    assert calibrated.distance(LINEAR, one, other) == 1


def test_biases_are_compared_element_by_element_across_zero() -> None:
    one = np.array([0x3F80, 0x0000, 0x0001], "<u2")
    assert calibrated.distance(BIAS, one.tobytes(), np.array([0x3F82, 0x8000, 0x8001], "<u2").tobytes()) == 2
    assert calibrated.distance(BIAS, one.tobytes(), one[:2].tobytes()) is None


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_what_is_no_scale_has_no_distance(value: float) -> None:
    bad = np.float32(value).tobytes()
    assert calibrated.distance(LINEAR, bad, nvfp4.input_scale(1.0).tobytes()) is None
    assert calibrated.distance("model.norm.weight", bad, b"abcd") is None
    assert calibrated.distance(LINEAR, b"ab", b"cd") is None
