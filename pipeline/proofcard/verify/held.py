"""The three tensors of a quantized linear: whether they are as its source wants them, and their content."""

from collections import Counter

import numpy as np

from proofcard.checkpoint.dialects.following import Stored
from proofcard.checkpoint.dialects.layouts import MODELOPT, block_of
from proofcard.checkpoint.dialects.view import View
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import BLOCK
from proofcard.verify.report import Finding


def is_plain(view: View, module: str) -> bool:
    """Whether a linear is in ModelOpt's layout, with blocks of 16."""
    weight, scale = view.tensors.get(f"{module}.weight"), view.tensors.get(f"{module}.weight_scale")
    block = block_of(weight, scale) if weight is not None and scale is not None else None
    return view.layouts.get(module, MODELOPT) is MODELOPT and block in (None, BLOCK)


def held(
    source: Source, module: str, view: View, counts: Counter[str]
) -> tuple[dict[str, Tensor] | None, list[Finding]]:
    """Its three tensors by leaf, or what is wrong with their dtypes and shapes."""
    counts["quantized linears"] += 1
    rows, columns = source.tensors[f"{module}.weight"].shape
    found = {
        leaf: tensor
        for leaf in ("weight", "weight_scale", "weight_scale_2")
        if (tensor := view.tensors.get(f"{module}.{leaf}")) is not None
    }
    block = (block_of(found["weight"], found["weight_scale"]) if len(found) == 3 else None) or BLOCK
    wanted = {
        "weight": ("U8", ((rows, columns // 2),)),
        "weight_scale": ("F8_E4M3", ((rows, columns // block),)),
        "weight_scale_2": ("F32", ((), (1,))),
    }
    faults = []
    for leaf, (dtype, shapes) in wanted.items():
        if leaf not in found:
            if leaf != "weight":  # a missing weight is named by the inventory
                faults.append(Finding("missing", "a quantized linear has it", tensor=f"{module}.{leaf}"))
            continue
        tensor = found[leaf]
        counts.update(tensors=1, bytes=tensor.size)
        if tensor.dtype != dtype or tensor.shape not in shapes:
            message = f"it is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shapes[0])}"
            faults.append(Finding("mismatched", message, tensor=f"{module}.{leaf}"))
    return (None if faults or len(found) < 3 else found), faults


def loaded(module: str, tensors: dict[str, Tensor], view: View) -> Stored:
    """All of it in memory."""
    weight, scale = tensors["weight"], tensors["weight_scale"]
    shared = np.frombuffer(tensors["weight_scale_2"].raw().tobytes(), "<f4")[0]
    layout = view.layouts.get(module, MODELOPT)
    return Stored(weight.bits(), scale.bits(), shared, layout, block_of(weight, scale) or BLOCK)
