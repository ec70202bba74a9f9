"""ModelOpt's quantizers for a recipe: which ones it inserts, and what it could not export afterwards.

Both engines use this module. ModelOpt is imported inside functions only, after the toolchain has put the
patched copy first on the import path.
"""

import copy
import logging
from collections.abc import Collection, Iterable
from typing import Any

import torch
import transformers

from proofcard.config.schema import QuantizeConfig
from proofcard.errors import Stop, one_line
from proofcard.nvfp4 import BLOCK

# Without a GPU torch's build helper and transformers print warnings at import that no user can act on.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
transformers.utils.logging.set_verbosity_error()

_FORMATS = {"nvfp4_experts_only": "NVFP4_EXPERTS_ONLY_CFG", "nvfp4_mlp_only": "NVFP4_MLP_ONLY_CFG"}
_KV_FORMATS = {"fp8": "FP8_KV_CFG", "fp8_affine": "FP8_AFFINE_KV_CFG", "fp8_cast": "FP8_KV_CFG"}
CONSTANT_AMAX = 448.0
"""ModelOpt's amax of a quantizer that is not calibrated: the largest E4M3 number, hence a scale of 1."""


def modelopt_config(config: QuantizeConfig) -> dict[str, Any]:
    """ModelOpt's own configuration for a recipe: quantizers and the calibration algorithm."""
    import modelopt.torch.quantization as mtq

    quant_config: dict[str, Any] = copy.deepcopy(getattr(mtq, _FORMATS[config.quantization.format]))
    quant_config["algorithm"] = {"method": "max"}
    if config.coverage.name == "all_experts":
        quant_config["algorithm"]["moe_calib_experts_ratio"] = 1.0
    if config.kv_cache.format != "none":
        kv = copy.deepcopy(getattr(mtq, _KV_FORMATS[config.kv_cache.format])["quant_cfg"])
        if config.kv_cache.format == "fp8_cast":
            kv["*[kv]_bmm_quantizer"]["use_constant_amax"] = True
        quant_config = mtq.update_quant_cfg_with_kv_cache_quant(quant_config, kv)
    return quant_config


def with_quantizers(model: Any, config: QuantizeConfig) -> Any:
    """The model with ModelOpt's quantizers inserted, none of them calibrated.

    Raises:
        Stop: when ModelOpt cannot insert them, or could not export this model afterwards.
    """
    import modelopt.torch.quantization as mtq

    check_exportable(model)
    try:
        return mtq.quantize(model, modelopt_config(config) | {"algorithm": None})
    except (AssertionError, RuntimeError, ValueError) as error:
        raise Stop(_cannot(model, error)) from None


def enabled(model: Any) -> dict[str, Any]:
    """ModelOpt's enabled quantizers by name."""
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {n: m for n, m in model.named_modules() if isinstance(m, TensorQuantizer) and m.is_enabled}


def check_selected(names: Collection[str]) -> None:
    """Raise Stop when the format selects no module."""
    if not names:
        raise Stop("the quantization format selects no module of this model: its patterns match nothing")


def check_reached(
    linears: Iterable[str], selected: Collection[str], attentions: list[str], kv_format: str
) -> None:
    """Check that the format quantizes all of the linears and attentions that its name promises.

    Raises:
        Stop: for an expert projection that stays unquantized, or a KV format without any quantizer.
    """
    unquantized = [name for name in linears if ".experts." in name and name not in selected]
    if unquantized:
        raise Stop(
            f"{unquantized[0]} and {len(unquantized) - 1} more expert projections would stay unquantized: "
            "the patterns of the quantization format do not match them; choose another quantization=…"
        )
    if kv_format != "none" and not attentions:
        raise Stop(
            f"kv_cache={kv_format}, but ModelOpt puts no KV quantizer into this model's attention: "
            "use kv_cache=none"
        )


def check_width(name: str, columns: int) -> None:
    """Raise Stop for a linear whose rows are not whole blocks."""
    if columns % BLOCK:
        raise Stop(
            f"{name} has {columns} input channels, not a multiple of {BLOCK}: NVFP4 cannot pack its weight"
        )


def check_exportable(model: Any) -> None:
    """Check that ModelOpt's export, which finds an expert's linears by a list of names, knows this model's.

    Raises:
        Stop: naming the model and the linears that its experts do not have.
    """
    from modelopt.torch.export.layer_utils import get_expert_linear_names, is_moe

    for module in model.modules():
        if is_moe(module) and isinstance(getattr(module, "experts", None), torch.nn.ModuleList):
            wanted = get_expert_linear_names(module)
            if missing := [name for name in wanted if not hasattr(module.experts[0], name)]:
                raise Stop(
                    f"ModelOpt 0.43.0 cannot export {type(model).__name__}: it expects {', '.join(missing)} "
                    f"in every expert of {type(module).__name__}, which has no such linear"
                )


def _cannot(model: Any, error: Exception) -> str:
    return f"ModelOpt 0.43.0 cannot quantize {type(model).__name__}: {one_line(error)[:200]}"
