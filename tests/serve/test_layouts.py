"""Layouts of quantized tensors: those that are known are read, every other is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from proofcard.checkpoint.configuration import declared, read_quantization
from proofcard.errors import Stop, Usage
from proofcard.nvfp4 import dequantize
from proofcard.serve import dequantized, layouts

U8, F8, F32, BF16 = torch.uint8, torch.float8_e4m3fn, torch.float32, torch.bfloat16
INTS = torch.zeros(4, 4, dtype=torch.int32)


def quantized(algorithm: str | None = None, method: str = "modelopt") -> dict[str, Any]:
    return {"quantization_config": {"quant_method": method, "quant_algo": algorithm}}


def codes(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=U8)


def fp8(*shape: int) -> torch.Tensor:
    return torch.ones(shape).to(F8)


NVFP4 = quantized("NVFP4")
FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]}}
LINEAR = "model.layers.0.mlp.up_proj.weight"
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj"


def linear(name: str = LINEAR, rows: int = 4, columns: int = 32, block: int = 16) -> dict[str, torch.Tensor]:
    """A linear as ModelOpt packs it."""
    torch.manual_seed(1)
    return {
        name: torch.randint(0, 256, (rows, columns // 2), dtype=U8),
        f"{name}_scale": torch.rand(rows, columns // block).add(0.5).to(F8),
        f"{name}_scale_2": torch.tensor(0.01),
        f"{name.removesuffix('weight')}input_scale": torch.tensor(0.02),
    }


def checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def serve(folder: Path, work: Path) -> Path:
    return dequantized.folder(folder, json.loads((folder / "config.json").read_text()), work)


PLAIN = {"model.norm.weight": torch.ones(4, dtype=BF16), "model.table": torch.ones(3, dtype=torch.int64)}
KNOWN = {
    "as ModelOpt names it": NVFP4,
    "weights alone": {"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}},
    "in other letters": {"quantization_config": {"quant_method": "ModelOpt", "quant_algo": "nvfp4"}},
    "modelopt_fp4": {"quantization_config": {"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}},
    "nested": {"quantization_config": {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4"}}},
    "of the text model": {"text_config": NVFP4},
}


@pytest.mark.parametrize("said", KNOWN)
def test_a_linear_that_is_known_is_read_however_its_format_is_spelled(tmp_path: Path, said: str) -> None:
    tensors = linear() | PLAIN | {"model.layers.0.self_attn.k_proj.k_scale": torch.tensor(1.0)}
    made = checkpoint(tmp_path / "made", KNOWN[said], tensors)
    read = layouts.readable(made, KNOWN[said], 1)
    assert read is not None and read.entries.keys() == {LINEAR, *PLAIN}
    assert (read.entries[LINEAR].dtype, read.entries[LINEAR].shape) == ("BF16", (4, 32))
    scale = tensors[f"{LINEAR}_scale"].view(U8).numpy()
    assert np.array_equal(
        read.bits(LINEAR), dequantize(tensors[LINEAR].numpy(), scale, np.float32(0.01), threads=1)
    )
    config = json.loads((serve(made, tmp_path) / "config.json").read_text())
    assert "quantization_config" not in config and "quantization_config" not in config.get("text_config", {})


def test_hf_quant_config_alone_is_enough(tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "made", {}, linear())
    outer = {"quantization": {"quant_algo": "NVFP4"}}
    (made / "hf_quant_config.json").write_text(json.dumps(outer))
    assert declared({}, read_quantization(made)) == ("NVFP4", "")
    assert serve(made, tmp_path) != made
    (made / "hf_quant_config.json").write_text("{")
    with pytest.raises(Usage, match=r"hf_quant_config\.json is not JSON"):
        serve(made, tmp_path)


def without(end: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in linear().items() if name != f"{LINEAR}{end}"}


def with_(end: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return linear() | {f"{LINEAR}{end}": tensor}


# what the folder holds, what config.json says, what the refusal names
UNKNOWN: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any], str]] = {
    "fused experts in U8": (
        linear() | {EXPERTS: codes(2, 4, 8)},
        NVFP4,
        r"gate_up_proj is U8 \[2, 4, 8\], fused experts",
    ),
    "fused experts as weight": (
        linear() | {f"{EXPERTS}.weight": codes(2, 4, 8)},
        NVFP4,
        r"gate_up_proj\.weight is U8 .*fused experts",
    ),
    "scales of fused experts": (
        linear() | {f"{EXPERTS}_weight_scale": fp8(2, 4, 2)},
        NVFP4,
        "gate_up_proj_weight_scale is F8_E4M3",
    ),
    "MXFP4 experts": (
        linear() | {f"{EXPERTS}_blocks": codes(2, 4, 1, 16)},
        NVFP4,
        "_blocks is U8 .* as in MXFP4",
    ),
    "MXFP4 scales": (
        linear() | {f"{EXPERTS}_scales": codes(2, 4, 1)},
        NVFP4,
        "_scales is U8 .* as in .*MXFP4",
    ),
    "compressed-tensors": (
        linear() | {"a.weight_packed": codes(4, 8)},
        NVFP4,
        "weight_packed is U8 .* as in compressed-tensors",
    ),
    "its global scale": (
        linear() | {"a.weight_global_scale": torch.ones(1)},
        NVFP4,
        "as in compressed-tensors",
    ),
    "GPTQ": (
        linear() | {"a.qweight": INTS},
        NVFP4,
        "a.qweight is I32 .* as in GPTQ",
    ),
    "AWQ's input scales": (
        linear() | {"a.pre_quant_scale": torch.ones(4, dtype=BF16)},
        NVFP4,
        "AWQ input scales",
    ),
    "no block scales": (without("_scale"), NVFP4, "weight_scale is missing"),
    "no scale of scales": (without("_scale_2"), NVFP4, "weight_scale_2 is missing"),
    "blocks of 64": (
        linear(columns=128, block=64),
        NVFP4,
        r"weight_scale is F8_E4M3 \[4, 2\], but one scale per 16 values needs F8_E4M3 \[4, 8\]",
    ),
    "scales in E8M0's bytes": (with_("_scale", codes(4, 2)), NVFP4, "weight_scale is U8"),
    "scales of FP32": (with_("_scale", torch.ones(4, 2)), NVFP4, "weight_scale is F32"),
    "swizzled scales": (
        with_("_scale", fp8(128, 4)),
        NVFP4,
        r"weight_scale is F8_E4M3 \[128, 4\]",
    ),
    "several scales of scales": (with_("_scale_2", torch.ones(4)), NVFP4, r"weight_scale_2 is F32 \[4\]"),
    "an FP8 linear beside": (linear() | {"a.weight": fp8(4, 4)}, NVFP4, "a.weight is F8_E4M3"),
    "an FP8 linear's scale": (linear() | {"a.weight_scale": torch.ones(1)}, NVFP4, "a.weight_scale is F32"),
    "int8 beside": (linear() | {"a.weight": torch.zeros(4, 4, dtype=torch.int8)}, NVFP4, "a.weight is I8"),
    "nothing in NVFP4": (PLAIN, NVFP4, "has no NVFP4 weight"),
    "FP8 without scales": ({"a.weight": fp8(16, 16)}, FP8, "a.weight is FP8 without"),
    "FP8 experts in one tensor": (
        {EXPERTS: fp8(2, 16, 16), f"{EXPERTS}_scale_inv": torch.ones(2, 1, 1)},
        FP8,
        "gate_up_proj is F8_E4M3",
    ),
    "codes in an FP8 checkpoint": ({"a.weight": codes(4, 4)}, FP8, "a.weight is U8"),
    "no word of it: U8": (linear(), {}, "although config.json has no quantization|as in"),
    "no word of it: U8 alone": (
        {"a.weight": codes(4, 4)},
        {},
        "a.weight is U8 .* although config.json has no quantization",
    ),
    "no word of it: FP8": (
        {"a.weight": fp8(4, 4)},
        {},
        "a.weight is F8_E4M3 .* although config.json has no quantization",
    ),
    "no word of it: compressed": (
        {"a.weight_packed": codes(4, 4)},
        {},
        "as in compressed-tensors",
    ),
    "no word of it: GPTQ": ({"a.qweight": INTS}, {}, "as in GPTQ"),
    "no word of it: experts": ({f"{EXPERTS}": codes(2, 4, 4)}, {}, "fused experts"),
    "another algorithm": (
        linear(),
        quantized("NVFP4_AWQ"),
        "quantized as NVFP4_AWQ",
    ),
    "several algorithms": (
        linear(),
        quantized("MIXED_PRECISION"),
        "quantized as MIXED_PRECISION",
    ),
    "another method": (
        linear(),
        quantized(method="awq"),
        "quantized as awq",
    ),
    "ModelOpt's names in compressed-tensors": (
        linear(),
        quantized(method="compressed-tensors"),
        "has no NVFP4 weight",
    ),
    "compressed-tensors' integers": (
        {"a.weight_packed": INTS, "a.weight_scale": torch.ones(4, 1, dtype=BF16)},
        quantized(method="compressed-tensors"),
        "has no NVFP4 weight",
    ),
    "compressed-tensors without a global scale": (
        {"a.weight_packed": codes(4, 16), "a.weight_scale": fp8(4, 2)},
        quantized(method="compressed-tensors"),
        "a.weight_packed is U8 .*, but a.weight_global_scale is missing",
    ),
    "compressed-tensors rotated": (
        linear(),
        {"quantization_config": {"quant_method": "compressed-tensors", "transform_config": {"a": 1}}},
        "has a transform_config, which is not supported here",
    ),
    "mxfp4": (
        {f"{EXPERTS}_blocks": codes(2, 4, 1, 16)},
        quantized(method="mxfp4"),
        "quantized as mxfp4",
    ),
    "an odd word": (linear(), {"quantization_config": {"quant_algo": ["NVFP4"]}}, "is quantized as"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_layout_that_is_not_known_is_refused_by_name(tmp_path: Path, name: str) -> None:
    tensors, config, why = UNKNOWN[name]
    made = checkpoint(tmp_path / "made", config, tensors)
    with pytest.raises(Usage, match=why):
        serve(made, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


@pytest.mark.parametrize("dtype", [BF16, torch.float16, F32, torch.int64, torch.int32, torch.bool])
def test_what_is_stored_as_it_is_used_is_served_as_it_is(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "a.weight": torch.ones(2, 2, dtype=dtype),
        "transformer.h.0.attn.bias": torch.ones(1, 1, 2, 2, dtype=U8),
    }
    made = checkpoint(tmp_path / "made", {"quantization_config": None}, tensors)
    assert serve(made, tmp_path) == made


def test_scales_that_fit_no_fp8_weight_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    tensors = {"a.weight": fp8(32, 16), "a.weight_scale_inv": torch.ones(3, 3)}
    made = checkpoint(tmp_path / "made", FP8, tensors)
    with pytest.raises(Stop, match=r"a\.weight"):
        serve(made, tmp_path)
    assert not any(path.is_dir() for path in (tmp_path / "dequantized").glob("*"))
