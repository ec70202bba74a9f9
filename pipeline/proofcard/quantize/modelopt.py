"""engine=modelopt: NVIDIA's own path, the whole model through `mtq.quantize` and `export_hf_checkpoint`.

The reference that every other engine is held to. ModelOpt is imported here only, after the toolchain
has put the patched copy first on the import path.
"""

import copy
import logging
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop, one_line
from proofcard.nvfp4 import BLOCK

# Without a GPU torch's build helper and transformers say things at import that no user can act on.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
transformers.utils.logging.set_verbosity_error()

_FORMATS = {"nvfp4_experts_only": "NVFP4_EXPERTS_ONLY_CFG", "nvfp4_mlp_only": "NVFP4_MLP_ONLY_CFG"}
_KV_FORMATS = {"fp8": "FP8_KV_CFG", "fp8_affine": "FP8_AFFINE_KV_CFG", "fp8_cast": "FP8_KV_CFG"}
CONSTANT_AMAX = 448.0
"""ModelOpt's amax of a quantizer that is not calibrated: the largest E4M3 number, hence a scale of 1."""

Progress = Callable[[int, int, float], None]
"""Called after each batch with samples, tokens (padding left out) and seconds of that batch."""


def chosen(config: QuantizeConfig) -> dict[str, Any]:
    """ModelOpt's own configuration for what the recipe names: quantizers and the calibration algorithm."""
    import modelopt.torch.quantization as mtq

    said: dict[str, Any] = copy.deepcopy(getattr(mtq, _FORMATS[config.quantization.format]))
    said["algorithm"] = {"method": config.quantization.algorithm}
    if config.coverage.name == "all_experts":
        said["algorithm"]["moe_calib_experts_ratio"] = 1.0
    if config.kv_cache.format != "none":
        kv = copy.deepcopy(getattr(mtq, _KV_FORMATS[config.kv_cache.format])["quant_cfg"])
        if config.kv_cache.format == "fp8_cast":
            kv["*[kv]_bmm_quantizer"]["use_constant_amax"] = True
        said = mtq.update_quant_cfg_with_kv_cache_quant(said, kv)
    return said


def with_quantizers(model: Any, config: QuantizeConfig) -> Any:
    """The model with ModelOpt's quantizers inserted, none of them calibrated.

    Raises:
        Stop: when ModelOpt cannot insert them, or could not export this model afterwards.
    """
    import modelopt.torch.quantization as mtq

    check_exportable(model)
    try:
        return mtq.quantize(model, chosen(config) | {"algorithm": None})
    except (AssertionError, RuntimeError, ValueError) as error:
        raise Stop(_cannot(model, error)) from None


def check_selected(names: Collection[str]) -> None:
    """Stop when these, the names of what the format selects, are none."""
    if not names:
        raise Stop("no quantizer is enabled: the format's patterns match no module of this model")


def check_reached(
    linears: Iterable[str], selected: Collection[str], attentions: list[str], kv_format: str
) -> None:
    """That the format means what its name says for these linears and attentions.

    Raises:
        Stop: for an expert's projection that is not quantized, and a KV format that no quantizer takes.
    """
    left = [name for name in linears if ".experts." in name and name not in selected]
    if left:
        raise Stop(
            f"{left[0]} and {len(left) - 1} more expert projections stay unquantized: the patterns of the "
            "quantization format do not reach them; take another quantization=…"
        )
    if kv_format != "none" and not attentions:
        raise Stop(
            f"kv_cache={kv_format}, but ModelOpt puts no KV quantizer into this model's attention: "
            "take kv_cache=none"
        )


def check_width(name: str, columns: int) -> None:
    """Raises Stop for a linear whose rows are not whole blocks."""
    if columns % BLOCK:
        raise Stop(
            f"{name} has {columns} input channels, not a multiple of {BLOCK}: NVFP4 cannot pack its weight"
        )


def check_exportable(model: Any) -> None:
    """ModelOpt's export finds the linears of an expert by a list of names; not every model's are in it.

    Raises:
        Stop: naming the model and the linears that its experts do not have.
    """
    from modelopt.torch.export.layer_utils import get_expert_linear_names, is_moe

    for module in model.modules():
        if is_moe(module) and isinstance(getattr(module, "experts", None), torch.nn.ModuleList):
            wanted = get_expert_linear_names(module)
            if missing := [name for name in wanted if not hasattr(module.experts[0], name)]:
                raise Stop(
                    f"ModelOpt 0.43.0 cannot export {type(model).__name__}: it wants {', '.join(missing)} "
                    f"in every expert of {type(module).__name__}, and there is no such linear"
                )


def _cannot(model: Any, error: Exception) -> str:
    return f"ModelOpt 0.43.0 cannot quantize {type(model).__name__}: {one_line(error)[:200]}"


def calibrate(model: Any, batches: Iterable[Batch], config: QuantizeConfig, progress: Progress) -> Any:
    """Insert quantizers and run every batch through the model; returns the quantized model.

    Raises:
        Stop: when ModelOpt cannot insert them, or could not export this model afterwards.
    """
    import modelopt.torch.quantization as mtq

    def forward_loop(quantized: Any) -> None:
        for batch in batches:
            started = time.perf_counter()
            _forward(quantized, batch, config.calibration.attention_mask)
            tokens = int(batch.attention_mask.sum())
            progress(len(batch.input_ids), tokens, time.perf_counter() - started)

    with torch.no_grad():
        quantized = with_quantizers(model, config)
        check_selected([name for name in _enabled(quantized) if name.endswith("weight_quantizer")])
        mtq.calibrate(quantized, chosen(config)["algorithm"], forward_loop)  # as mtq.quantize does
    _note_constants(quantized)
    return quantized


def _note_constants(model: Any) -> None:
    """Let a quantizer with ModelOpt's constant amax say it: 0.43.0 computes with it and exports no scale."""
    for module in _enabled(model).values():
        if module._use_constant_amax:
            module.amax = CONSTANT_AMAX


def _forward(model: Any, batch: Batch, attention_mask: bool) -> None:
    inputs = {"input_ids": torch.from_numpy(batch.input_ids).to(model.device)}
    if attention_mask:
        inputs["attention_mask"] = torch.from_numpy(batch.attention_mask).to(model.device)
    model(**inputs, use_cache=False)


def amaxes(model: Any) -> dict[str, float]:
    """The calibrated amax of every enabled quantizer that keeps a static one, by quantizer name.

    Raises:
        Stop: naming the first quantizer that ended without a finite, positive amax.
    """
    found: dict[str, float] = {}
    for name, module in _enabled(model).items():
        amax = module.amax
        value = float("nan") if amax is None else float(amax.float().max())
        if not 0 < value < float("inf"):
            raise Stop(f"{name} ended with amax {value}: no sample reached it, or its input is not finite")
        found[name] = value
    return found


def _enabled(model: Any) -> dict[str, Any]:
    """ModelOpt's quantizers that are switched on, by name."""
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {n: m for n, m in model.named_modules() if isinstance(m, TensorQuantizer) and m.is_enabled}


def keep_fp8(model: Any, source: Source) -> None:
    """Let the export find each FP8 weight of the source as it finds one that is still in FP8.

    It calls `unpack_weight` of a linear that says it is packed, after everything that runs the model: the
    weight becomes torch's default dtype there, float32, and its block scales come from that.
    """
    for name, module in model.named_modules():
        if source.is_fp8(f"{name}.weight"):
            module.weight_packed = None  # that it is there is what is asked
            module.unpack_weight = partial(_unpack, module, source, f"{name}.weight")


def _unpack(module: Any, source: Source, name: str) -> None:
    weight = torch.from_numpy(source.unrounded(name)).to(module.weight.device)
    module.weight = torch.nn.Parameter(weight, requires_grad=False)


def export(model: Any, folder: Path) -> None:
    """Write the Hugging Face layout: packed shards, config.json, hf_quant_config.json."""
    from modelopt.torch.export import export_hf_checkpoint

    with torch.no_grad():
        export_hf_checkpoint(model, export_dir=folder)
