"""Small checkpoints as each maker writes them, from our own formulas.

Those are held to the makers' elsewhere.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from verify.making import Tensors, config_of, save, write_json

from proofcard import nvfp4
from proofcard.checkpoint.dialects import fp8, loops, rules
from proofcard.checkpoint.dialects.following import paired, smaller_error
from proofcard.checkpoint.dialects.layouts import COMPRESSED
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import e4m3_to_f32
from proofcard.verify.inventory import fused_groups

F32 = np.float32
PART = {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False}
CT_PART = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
CT_WEIGHTS = CT_PART | {"dynamic": False, "observer": "memoryless_minmax"}
CT_INPUTS = CT_PART | {"dynamic": "local", "observer": "static_minmax"}
CT_EIGHT = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
SETTINGS = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")


def pack(
    source: Source, module: str, group: tuple[str, ...], rule: rules.Rule, block: int = 16
) -> list[np.ndarray]:
    """Codes, block scales and second-level scale of a linear by a rule."""
    bits = source.bits(f"{module}.weight")
    amax = max(nvfp4.amax(source.bits(f"{one}.weight")) for one in group)
    shared = rule.shared(amax)
    with np.errstate(all="ignore"):
        if rule.paired:
            other = next(one for one in group if one != module)
            empty = np.full((bits.shape[0], bits.shape[1] // block), 0x7F, np.uint8)
            scales, _ = paired(bits, source.bits(f"{other}.weight"), amax, block, empty)
        else:
            candidates = rule.scales(loops.amaxes(bits, block), shared, amax)
            scales, _ = smaller_error(bits, candidates, rule.step, shared, block, candidates[0])
    return [codes(bits, scales, shared, rule, block), scales, np.array(shared)]


def codes(bits: np.ndarray, scales: np.ndarray, shared: Any, rule: rules.Rule, block: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        steps = np.asarray(rule.step.of(e4m3_to_f32(scales), F32(shared)), F32)
    return loops.pack(bits, steps, block, multiply=rule.step.multiply, signed_zero=rule.step.signed_zero)


def eight(source: Source, module: str, dtype: str, rows: bool) -> Tensors:
    """A linear in FP8 with a scale for each row, or for the tensor."""
    bits = source.bits(f"{module}.weight")
    shape = ((len(bits), 1) if dtype == "BF16" else (len(bits),)) if rows else (1,) if dtype == "BF16" else ()
    like = Tensor("scale", Path(), dtype, shape, 0, int(np.prod(shape)) * (2 if dtype == "BF16" else 4))
    scale = fp8.wanted_scale(bits, like)
    return {
        f"{module}.weight": ("F8_E4M3", fp8.codes(bits, scale, dtype)),
        f"{module}.weight_scale": (dtype, scale),
    }


def linears(source: Source) -> list[str]:
    names = (name.removesuffix(".weight") for name in source.weights())
    return [name for name in names if "_proj" in name or ".experts." in name]


def make(folder: Path, source_folder: Path, dialect: str) -> Path:
    """A checkpoint of that source in a dialect of `DIALECTS`."""
    source, said = Source(source_folder), DIALECTS[dialect]
    folder.mkdir(parents=True)
    quantized = [module for module in linears(source) if said.quantizes(module)]
    fp8_linears = [module for module in linears(source) if said.eight is not None and module not in quantized]
    tensors: Tensors = {}
    for name in source.weights():
        if name.removesuffix(".weight") not in {*quantized, *fp8_linears}:
            tensors[name] = (source.dtype(name), np.array(source.bits(name)))
    for module in fp8_linears:
        assert said.eight is not None
        tensors |= eight(source, module, *said.eight)
    leaves = (
        COMPRESSED.leaves
        if said.rule.layout is COMPRESSED
        else ("weight", "weight_scale", "weight_scale_2", "input_scale")
    )
    for group in fused_groups(quantized):
        for module in group:
            rule = said.rule
            if rule is rules.FOUR_OVER_SIX and len(group) == 2 and ".experts." in module:
                rule = rules.FOUR_OVER_SIX_PAIRED
            packed, scales, shared = pack(source, module, group, rule, said.block)
            if said.searched:
                scales = np.where((scales > 0x18) & (scales < 0x78), scales + np.uint8(2), scales)
                packed = codes(source.bits(f"{module}.weight"), scales, shared, rule, said.block)
            one = shared.reshape(1) if said.rule.layout is COMPRESSED else shared
            name = said.name(module)
            tensors |= {
                f"{name}.{leaves[0]}": ("U8", packed), f"{name}.{leaves[1]}": ("F8_E4M3", scales),
                f"{name}.{leaves[2]}": ("F32", one),
            }  # fmt: skip
            if said.inputs:
                tensors[f"{name}.{leaves[3]}"] = (
                    "F32",
                    F32(300.0).reshape(one.shape) if said.rule.layout is COMPRESSED else F32(0.01),
                )
    save(folder, tensors)
    plain = [m for m in (n.removesuffix(".weight") for n in source.weights() if n.endswith(".weight"))
             if m not in quantized and m not in fp8_linears and len(source.tensors[f"{m}.weight"].shape) == 2
             and "embed" not in m]  # fmt: skip
    said.configure(folder, source, [said.name(m) for m in quantized], fp8_linears, plain)
    for name in SETTINGS:
        if (source_folder / name).is_file():
            shutil.copy(source_folder / name, folder)
    return folder


class Dialect:
    def __init__(
        self, rule: rules.Rule, configure: Callable[..., None], *, block: int = 16, inputs: bool = True,
        only: tuple[str, ...] = ("",), eight: tuple[str, bool] | None = None, searched: bool = False,
        renames: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.rule, self.configure, self.block, self.inputs = rule, configure, block, inputs
        self.only, self.eight, self.searched, self.renames = only, eight, searched, renames or {}

    def quantizes(self, module: str) -> bool:
        return any(part in module for part in self.only)

    def name(self, module: str) -> str:
        stem, _, leaf = module.rpartition(".")
        return f"{stem}.{self.renames.get(leaf, leaf)}"


def _write(
    folder: Path, source: Source, quantization: dict[str, Any], quant: dict[str, Any] | None = None
) -> None:
    write_json(
        folder / "config.json", config_of(source.config["model_type"]) | {"quantization_config": quantization}
    )
    if quant is not None:
        producer = {"name": "modelopt", "version": "0.47.0"}
        write_json(folder / "hf_quant_config.json", {"producer": producer, "quantization": quant})


def modelopt(algorithm: str, block: int = 16) -> Callable[..., None]:
    def configure(folder: Path, source: Source, quantized: list[str], _: list[str], plain: list[str]) -> None:
        group: dict[str, Any] = {"weights": PART | {"group_size": block}, "targets": ["Linear"]}
        if algorithm == "NVFP4":
            group["input_activations"] = PART
        said = {
            "ignore": plain,
            "quant_algo": algorithm,
            "quant_method": "modelopt",
            "config_groups": {"group_0": group},
        }
        quant = {
            "quant_algo": algorithm,
            "kv_cache_quant_algo": None,
            "group_size": block,
            "exclude_modules": plain,
        }
        _write(folder, source, said, quant)

    return configure


def modelopt_mixed(folder: Path, source: Source, quantized: list[str], fp8_: list[str], _: list[str]) -> None:
    layers = {m: {"quant_algo": "NVFP4", "group_size": 16} for m in quantized}
    layers |= {m: {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"} for m in fp8_}
    said = {"quant_algo": "MIXED_PRECISION", "quant_method": "modelopt", "quantized_layers": layers}
    _write(
        folder,
        source,
        said,
        {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": None, "quantized_layers": layers},
    )


def compressed(inputs: bool, mixed: bool = False) -> Callable[..., None]:
    def configure(folder: Path, source: Source, _: list[str], eights: list[str], plain: list[str]) -> None:
        four = {"weights": CT_WEIGHTS, "input_activations": CT_INPUTS if inputs else None,
                "targets": ["re:.*experts.*", "re:.*mlp.*_proj$"] if mixed else ["Linear"]}  # fmt: skip
        groups = {"group_0": four}
        if mixed:
            groups["group_1"] = {
                "weights": CT_EIGHT,
                "input_activations": None,
                "targets": ["re:.*self_attn.*proj$"],
            }
        said = {
            "config_groups": groups, "format": "mixed-precision" if mixed else "nvfp4-pack-quantized",
            "ignore": plain, "quant_method": "compressed-tensors", "quantization_status": "compressed",
            "kv_cache_scheme": None, "version": "0.19.0", "sparsity_config": {}, "transform_config": {},
        }  # fmt: skip
        _write(folder, source, said)

    return configure


def auto_round(folder: Path, source: Source, _: list[str], __: list[str], plain: list[str]) -> None:
    said = {
        "bits": 4, "act_bits": 4, "data_type": "nv_fp", "act_data_type": "nv_fp4_with_static_gs",
        "group_size": 16, "act_group_size": 16, "sym": True, "act_sym": True, "act_dynamic": True,
        "quant_method": "auto-round", "packing_format": "auto_round:llm_compressor",
        "autoround_version": "0.16.1", "block_name_to_quantize": "model.layers",
        "extra_config": {m: {"bits": 16, "data_type": "float"} for m in plain if ".layers." in m},
    }  # fmt: skip
    _write(folder, source, said)
    write_json(
        folder / "quantization_config.json",
        json.loads((folder / "config.json").read_text())["quantization_config"],
    )


TO_PROJ = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
DIALECTS = {
    "modelopt W4A16": Dialect(rules.MAX_CLAMPED, modelopt("W4A16_NVFP4"), inputs=False),
    "modelopt blocks of 32": Dialect(
        rules.MAX_CLAMPED, modelopt("W4A16_NVFP4", 32), inputs=False, block=32, only=(".w1", ".w3")
    ),
    "modelopt four over six": Dialect(rules.FOUR_OVER_SIX, modelopt("NVFP4")),
    "modelopt searched": Dialect(rules.MAX_CLAMPED, modelopt("NVFP4"), searched=True),
    "modelopt mixed": Dialect(rules.MAX_CLAMPED, modelopt_mixed, only=(".experts.",), eight=("F32", True)),
    "llm-compressor": Dialect(rules.LLM_COMPRESSOR, compressed(True), renames=TO_PROJ),
    "llm-compressor mixed": Dialect(
        rules.LLM_COMPRESSOR, compressed(False, True), inputs=False, only=(".experts.",), eight=("BF16", True)
    ),
    "auto-round": Dialect(rules.AUTO_ROUND, auto_round, renames=TO_PROJ),
}  # fmt: skip
