"""What a checkpoint should hold, recomputed from its source."""

from pathlib import Path

import numpy as np
import pytest
from verify.making import W1, W2, W3

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.verify import recompute


def test_a_linear_is_packed_again_to_the_same_bytes(checkpoint: Path, source: Path) -> None:
    weights, tensors = Source(source), read_folder(checkpoint)
    for module, group in ((W2, (W2,)), (W1, (W1, W3))):
        scale_2 = recompute.group_scale_2(weights, group)
        packed = recompute.quantize(weights, module, scale_2)
        for leaf, bits in packed.items():
            assert np.array_equal(bits, tensors[f"{module}.{leaf}"].bits()), leaf
        assert recompute.follows(weights, module, tensors)


def test_a_plain_weight_is_the_source_s_and_fp8_is_dequantized(checkpoint: Path, source: Path) -> None:
    weights, tensors = Source(source), read_folder(checkpoint)
    for name in ("model.norm.weight", "model.layers.0.self_attn.q_proj.weight"):
        bits, dtype = recompute.plain(weights, name)
        assert dtype == tensors[name].dtype and np.array_equal(bits, tensors[name].bits())
    assert recompute.plain(weights, "model.layers.0.self_attn.q_proj.weight", float32=True)[1] == "F32"


def test_codes_are_those_of_the_number_format() -> None:
    values = np.random.default_rng(3).normal(0, 2, (8, 64)).astype(np.float32)
    values = nvfp4.bf16_to_f32(nvfp4.f32_to_bf16(values))
    scale_2 = nvfp4.weight_scale_2(float(np.abs(values).max()))
    packed, scale = nvfp4.quantize(nvfp4.f32_to_bf16(values), scale_2)
    step = np.repeat(nvfp4.e4m3_to_f32(scale) * scale_2, nvfp4.BLOCK, axis=1)
    assert np.array_equal(recompute.codes(values, step), packed)


def test_a_weight_that_is_asked_for_twice_is_read_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, reads = Source(source), []
    genuine = recompute.operands
    monkeypatch.setattr(recompute, "operands", lambda *args: reads.append(args[1]) or genuine(*args))
    read = recompute.remembering()
    assert np.array_equal(read(weights, W2)[0], read(weights, W2)[0])
    assert reads == [W2]


def test_without_a_manifest_the_tensors_tell_of_float32(checkpoint: Path, source: Path) -> None:
    assert not recompute.dequantized_to_float32(Source(source), read_folder(checkpoint), None)
