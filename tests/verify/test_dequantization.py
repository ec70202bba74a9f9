"""Level `weights` on checkpoints whose FP8 source went through float32, sealed as such or not."""

from pathlib import Path
from typing import Any

import pytest
from verify.making import (
    W2,
    Tensors,
    Verified,
    load,
    reseal,
    save,
)

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.verify import diagnose

ONLY = ("weights",)
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


def through_float32(tensors: Tensors, source: Source) -> None:
    """As with quantization.dequantize_to=float32."""
    for name in filter(source.is_fp8, source.weights()):
        if f"{name}_scale" not in tensors:
            tensors[name] = ("F32", source.unrounded(name))
            continue
        packed, scale = nvfp4.quantize_fp8(
            source.tensors[name].bits(), source.fp8_scale(name).bits(), tensors[f"{name}_scale_2"][1],
            block=source.block, unrounded_scales=True,
        )  # fmt: skip
        tensors[name], tensors[f"{name}_scale"] = ("U8", packed), ("F8_E4M3", scale)


def said(dtype: str) -> dict[str, Any]:
    return {"quantization": {"dequantize_to": dtype}}


@pytest.mark.parametrize("config", [said("float32"), None])
def test_fp8_weights_that_went_through_float32(checkpoint: Path, source: Path, config: Any) -> None:
    tensors = load(checkpoint)
    through_float32(tensors, Source(source))
    save(checkpoint, tensors, 2)
    reseal(checkpoint, source, config)
    if config is None:
        (checkpoint / "manifest.json").unlink()
    verified = Verified(checkpoint, source, ONLY)
    assert verified.status == 0, verified.screen
    assert "FP8 weights were dequantized to float32" in " ".join(verified.screen.split())
    altered_scale = load(checkpoint)
    altered_scale[f"{W2}.weight_scale"][1][3, 1] ^= 1
    save(checkpoint, altered_scale, 2)
    (found,) = Verified(checkpoint, source, ONLY).differences("weights")
    assert (found["tensor"], found["cause"]) == (f"{W2}.weight_scale", diagnose.FLIPPED)


@pytest.mark.parametrize(
    ("dtype", "causes"),
    [
        ("bfloat16", {diagnose.SCALES_FROM_FP32, diagnose.PLAIN_FP32}),
        ("float32", {diagnose.SCALES_FROM_BF16, diagnose.PLAIN_BF16}),
    ],
)
def test_the_other_dequantization_than_the_manifest_says_is_named(
    checkpoint: Path, source: Path, dtype: str, causes: set[str], monkeypatch: Any
) -> None:
    tensors = load(checkpoint)
    if dtype == "bfloat16":
        through_float32(tensors, Source(source))
    save(checkpoint, tensors, 2)
    reseal(checkpoint, source, said(dtype))
    monkeypatch.setattr("proofcard.verify.weights._DIAGNOSED", 100)
    found = {d["cause"] for d in Verified(checkpoint, source, ONLY).differences("weights")}
    assert causes <= found, found
