"""The formulas give the makers' own bytes: golden/ was written by their functions (write_golden.py)."""

from pathlib import Path

import numpy as np
import pytest

from proofcard.checkpoint.dialects import fp8, loops, rules
from proofcard.checkpoint.dialects.following import Stored, relative_error, smaller_error, verdict
from proofcard.checkpoint.dialects.layouts import COMPRESSED, MODELOPT
from proofcard.checkpoint.tensors import Tensor, read_header
from proofcard.nvfp4 import bf16_to_f32, e4m3_to_f32

GOLDEN = Path(__file__).parent / "golden"
CASES = [
    ("modelopt", "max_16", rules.MAX_CLAMPED, 16),
    ("modelopt", "max_32", rules.MAX_CLAMPED, 32),
    ("modelopt", "w4a8_16", rules.W4A8, 16),
    ("modelopt", "w4a8_32", rules.W4A8, 32),
    ("llm_compressor", "nvfp4", rules.LLM_COMPRESSOR, 16),
    ("auto_round", "nvfp4", rules.AUTO_ROUND, 16),
    ("four_over_six", "four_over_six", rules.FOUR_OVER_SIX, 16),
]


def golden(maker: str, kind: str) -> dict[str, Tensor]:
    tensors = read_header(GOLDEN / f"{maker}.safetensors")
    return {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}.")}


def number(tensor: Tensor) -> np.float32:
    return np.float32(tensor.bits().reshape(()))


def stored_of(found: dict[str, Tensor], rule: rules.Rule, block: int) -> Stored:
    return Stored(found["codes"].bits(), found["scales"].bits(), number(found["shared"]), rule.layout, block)


@pytest.mark.parametrize(("maker", "kind", "rule", "block"), CASES, ids=lambda value: str(value)[:20])
def test_bytes_are_the_makers(maker: str, kind: str, rule: rules.Rule, block: int) -> None:
    found = golden(maker, kind)
    bits, amax = found["w"].bits(), number(found["amax"])
    shared = rule.shared(amax)
    assert shared.tobytes() == number(found["shared"]).tobytes()
    candidates = rule.scales(loops.amaxes(bits, block), shared, amax)
    scales, ties = smaller_error(bits, candidates, rule.step, shared, block, found["scales"].bits())
    assert np.array_equal(scales, found["scales"].bits()) and ties == 0
    steps = np.asarray(rule.step.of(e4m3_to_f32(scales), shared), np.float32)
    codes = loops.pack(bits, steps, block, multiply=rule.step.multiply, signed_zero=rule.step.signed_zero)
    assert np.array_equal(codes, found["codes"].bits())


@pytest.mark.parametrize(("maker", "kind", "rule", "block"), CASES, ids=lambda value: str(value)[:20])
def test_a_verdict_names_the_rule(maker: str, kind: str, rule: rules.Rule, block: int) -> None:
    found = golden(maker, kind)
    said = verdict(found["w"].bits(), [number(found["amax"])], stored_of(found, rule, block))
    assert rule in said.fitting
    assert said.follows_given and said.off == 0
    if block == 16:  # an underflowing block tells the versions of ModelOpt apart; 32 weights hide it here
        assert len(said.fitting) == 1


@pytest.mark.parametrize("case", ["modelopt fp8", "modelopt fp8_rows", "llm_compressor fp8_tensor",
                                  "llm_compressor fp8_channel"])  # fmt: skip
def test_fp8_bytes_are_the_makers(case: str) -> None:
    found = golden(*case.split())
    scale = found["scale"]
    wanted = fp8.wanted_scale(found["w"].bits(), scale)
    assert np.array_equal(wanted, scale.bits())
    assert np.array_equal(fp8.codes(found["w"].bits(), wanted, scale.dtype), found["codes"].bits())


@pytest.mark.parametrize(("maker", "kind", "rule", "block"), CASES[:6:2], ids=lambda value: str(value)[:20])
def test_other_scales_with_the_right_codes_follow_as_given(
    maker: str, kind: str, rule: rules.Rule, block: int
) -> None:
    found = golden(maker, kind)
    stored = stored_of(found, rule, block)
    scales = stored.scales.copy()
    ordinary = (scales > 0x20) & (scales < 0x70)
    scales[ordinary] += 3
    steps = np.asarray(rule.step.of(e4m3_to_f32(scales), stored.shared), np.float32)
    codes = loops.pack(
        found["w"].bits(), steps, block, multiply=rule.step.multiply, signed_zero=rule.step.signed_zero
    )
    searched = Stored(codes, scales, stored.shared, rule.layout, block)
    said = verdict(found["w"].bits(), [number(found["amax"])], searched)
    assert not said.fitting and said.follows_given
    assert said.nearest.scales.count == int(ordinary.sum())
    codes[3, 3] ^= 0x10
    assert not verdict(found["w"].bits(), [number(found["amax"])], searched).follows_given


def test_the_relative_error_is_that_of_plain_numpy() -> None:
    found = golden("modelopt", "max_16")
    stored = stored_of(found, rules.MAX_CLAMPED, 16)
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    halves = np.stack([stored.codes & 15, stored.codes >> 4], axis=-1).reshape(len(stored.codes), -1)
    signed = np.where(halves & 8, -values[halves & 7], values[halves & 7])
    have = signed * np.repeat(e4m3_to_f32(stored.scales) * stored.shared, 16, axis=1)
    want = bf16_to_f32(found["w"].bits()).astype(np.float64)
    total, worst = relative_error(found["w"].bits(), stored)
    assert total == pytest.approx(((have - want) ** 2).sum() / (want**2).sum(), rel=1e-5)
    assert 0 < total < 0.02 < worst <= 1


def test_layouts_have_rules_and_steps() -> None:
    assert set(rules.of_layout(MODELOPT)) | set(rules.of_layout(COMPRESSED)) == set(rules.RULES)
    assert len(rules.steps_of(MODELOPT)) == 1 and len(rules.steps_of(COMPRESSED)) == 2
