"""What of a checkpoint this version understands. What it does not is named, and never verified.

Understood are ModelOpt's NVFP4 linears (`weight` U8 in two dimensions with its three scales), scales and
biases of an FP8 KV cache, and plain weights. Every other tensor that looks quantized, by its dtype or by its
name, belongs to a layout that no rule here covers.
"""

import re

from proofcard.checkpoint.dialects.layouts import is_packed
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.verify.inventory import SCALES, Inventory, kind

FLOATS = ("BF16", "F16", "F32", "F64")
_BUFFERS = ("I64", "BOOL")  # positions, counters, masks: no layout keeps codes in them

# Last parts of names that belong to quantized weights elsewhere: GPTQ and AWQ, compressed-tensors, AutoRound,
# MXFP4 (gpt-oss), bitsandbytes, FP8 with block or channel scales, ModelOpt's AWQ, SmoothQuant and SVDQuant.
_QUANTIZED = re.compile(
    r"(.*_)?(q?weight_(packed|shape|scale.*|zero_point|g_idx|global_scale|quantizer.*)|qweight|qzeros|q?scales|"
    r"blocks|g_idx|zero_points?|zeros|(input|output|weight)_(global_)?scale(_\d|_inv|_ub)?|scale_inv|"
    r"activation_scale|pre_quant_scale|global_scale|smooth_scale|absmax|amax|quant_map|quant_state.*|SCB|"
    r"weight_format|q_scale|prob_output_scale|svdquant_lora_[ab]|qconfig|s_channel|s_group)"
)


def unexplained(inventory: Inventory, source: Source | None, smoothed: bool = False) -> list[str]:
    """One sentence for each kind of tensor that no rule explains; empty when there is none.

    `smoothed`: quantized weights may have `pre_quant_scale` factors.
    """
    kinds: dict[str, list[Tensor]] = {}
    for name in inventory.tensors:
        tensor = inventory.tensors[name]
        if smoothed and name.endswith(".pre_quant_scale") and tensor.dtype in FLOATS:
            continue
        if name in inventory.cache or _explained(name, inventory) or _source_has(tensor, source):
            continue
        kinds.setdefault(kind(tensor.name), []).append(tensor)
    return [_sentence(sorted(tensors, key=lambda tensor: tensor.name)) for tensors in kinds.values()]


def quantized_nothing(inventory: Inventory) -> str | None:
    """Why there is no NVFP4 to check."""
    if inventory.quantized or inventory.fp8:
        return None
    return "no linear is quantized: no module has packed weights with their scales"


def fused_experts(inventory: Inventory, source: Source) -> str | None:
    """The source keeps all experts of a layer in one tensor, and the checkpoint each by itself."""
    alone = {
        name.partition(".experts.")[0]
        for name in inventory.model
        if name.partition(".experts.")[2].partition(".")[0].isdigit()
    }
    for name in source.weights():
        stem, between, rest = name.rpartition(".experts.")
        if between and stem in alone and not rest.partition(".")[0].isdigit() and name not in inventory.model:
            shape = list(source.tensors[name].shape)
            return (
                f"the source keeps the experts of a layer in one tensor ({name} {shape}), the checkpoint one "
                "by one: this version does not match them; use a source that stores them one by one"
            )
    return None


def _explained(name: str, inventory: Inventory) -> bool:
    tensor = inventory.tensors[name]
    stem, _, leaf = name.rpartition(".")
    if stem in inventory.fp8:
        return leaf in ("weight", "weight_scale", "input_scale", "bias")
    if leaf in SCALES:
        weight = inventory.tensors.get(f"{stem}.weight")
        # Without its weight, or beside a plain one, it is damage, and the structure names it.
        return weight is None or is_packed(weight) or (weight.dtype in FLOATS and len(weight.shape) == 2)
    if leaf == "weight" and is_packed(tensor):
        return True
    if tensor.dtype in FLOATS or tensor.dtype in _BUFFERS:
        return _QUANTIZED.fullmatch(leaf) is None
    return False


def _source_has(tensor: Tensor, source: Source | None) -> bool:
    """The source's own tensor, of its dtype and shape: a plain copy, whatever its name looks like."""
    if source is None or tensor.name not in source.tensors:
        return False
    own = source.tensors[tensor.name]
    return (source.dtype(tensor.name), own.shape) == (tensor.dtype, tensor.shape)


def _sentence(tensors: list[Tensor]) -> str:
    first = tensors[0]
    more = f" and {len(tensors) - 1} like it" if len(tensors) > 1 else ""
    what = _layout(first)
    return f"{first.name} ({first.dtype} {list(first.shape)}){more}: {what}, a layout that is not supported"


def _layout(tensor: Tensor) -> str:
    """The layout that such a tensor most likely belongs to."""
    leaf = tensor.name.rpartition(".")[2]
    for pattern, called in _LAYOUTS:
        if re.fullmatch(pattern, leaf):
            return called
    if len(tensor.shape) == 3:
        return "fused experts in one quantized tensor"
    if tensor.dtype.startswith("F8"):
        return "FP8 weights"
    if tensor.dtype in FLOATS:
        return "part of another quantization format"
    return "integer codes or packed weights of another layout"


_LAYOUTS = (
    (r".*_blocks|blocks|.*_scales", "MXFP4 blocks as gpt-oss has them"),
    (r"qweight|qzeros|scales|g_idx", "GPTQ or AWQ"),
    (r"weight_packed|weight_shape|weight_g_idx|weight_zero_point|.*global_scale", "compressed-tensors"),
    (r".*weight_scale_inv", "FP8 with block scales"),
    (r"pre_quant_scale", "AWQ or SmoothQuant of ModelOpt"),
    (r"svdquant_.*", "SVDQuant"),
    (r"absmax|quant_map|quant_state.*|SCB", "bitsandbytes"),
    (r".+_(weight_scale(_2)?|input_scale)", "fused experts with scales of their own"),
)
