"""Which program wrote a checkpoint, and which versions of it: by its bytes, and by what its files say.

Bytes outweigh labels: with a source, the rules by which every byte follows; without one, traits of each
program.

| trait | program |
|---|---|
| `weight_packed` with a global scale | llm-compressor or auto-round |
| every global scale is a BF16 number, or a negative zero among the codes | llm-compressor |
| a global scale that BF16 does not have, and no negative zero | auto-round |
| a block scale of zero beside codes of ±6 | ModelOpt up to 0.44 |
| no largest block scale above 384 | ModelOpt 0.46 and later, four over six |
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import json_files
from proofcard.checkpoint.dialects.layouts import COMPRESSED, renamed
from proofcard.checkpoint.dialects.view import View
from proofcard.errors import Stop
from proofcard.nvfp4 import e4m3_to_f32
from proofcard.verify.config_comparison import text
from proofcard.verify.report import Level
from proofcard.verify.weight_files import read_tensors

_LOOKED_AT = 24  # quantized linears whose traits are looked at


def named(folder: Path, weights: Level | None) -> dict[str, Any]:
    """`program`, inferred from the bytes, or null; `evidence` and `labels`, one sentence each.

    `weights`: that level, if it was checked.

    Raises:
        Stop: when a tensor cannot be read.
    """
    tensors, _ = read_tensors(folder)
    view = View(*renamed(tensors))
    evidence = []
    if weights is not None and weights.made_by:
        evidence += [f"{count} linears follow by {name}" for name, count in weights.made_by.items()]
    if weights is not None and weights.scales:
        evidence.append(f"a search chose the block scales of {len(weights.scales)} linears")
    traits, program = _traits(view)
    evidence += traits
    if weights is not None and weights.made_by:
        program = ", ".join(dict.fromkeys(_makers(weights.made_by)))
    return {"program": program, "evidence": evidence, "labels": list(_labels(folder))}


def _makers(made_by: dict[str, int]) -> Iterator[str]:
    """The programs that names of rules end with, in brackets."""
    for name in made_by:
        makers = [part.rpartition(" (")[2].removesuffix(")") for part in name.split(" or ")]
        if any("(" in part for part in name.split(" or ")):
            yield " or ".join(dict.fromkeys(makers))


def _traits(view: View) -> tuple[list[str], str | None]:
    modules = [module for module in view.layouts if _whole(view, module)]
    if not modules:
        return ["there are no linears in NVFP4"], None
    chosen = modules[:: max(1, len(modules) // _LOOKED_AT)][:_LOOKED_AT]
    if any(view.layouts[module] is COMPRESSED for module in chosen):
        return _compressed(view, [module for module in chosen if view.layouts[module] is COMPRESSED])
    scales = [view.tensors[f"{module}.weight_scale"].raw() for module in chosen]
    codes = [view.tensors[f"{module}.weight"].raw() for module in chosen]
    if any((scale == 0).any() for scale in scales):
        return ["a block scale is zero, as ModelOpt writes it up to 0.44"], "ModelOpt up to 0.44"
    largest = max(float(e4m3_to_f32(scale.max(keepdims=True))[0]) for scale in scales if scale.size)
    if 224 < largest <= 384:
        sentence = f"no block scale is above {largest:g}: four over six gives 256 or 384, the max rule 448"
        return [sentence], "ModelOpt 0.46 and later (four over six)"
    zeros = any(((code & 0x0F) == 8).any() for code in codes)
    return [
        f"ModelOpt's names, the largest block scale is {largest:g}, "
        f"{'negative zeros' if zeros else 'no negative zero'} among the codes"
    ], "ModelOpt, any version"


def _whole(view: View, module: str) -> bool:
    tensors = [view.tensors.get(f"{module}.{leaf}") for leaf in ("weight", "weight_scale", "weight_scale_2")]
    kinds = [tensor.dtype if tensor is not None else None for tensor in tensors]
    return kinds == ["U8", "F8_E4M3", "F32"]


def _compressed(view: View, modules: list[str]) -> tuple[list[str], str | None]:
    shared = [
        view.tensors[f"{module}.weight_scale_2"].bits().reshape(-1).view(np.uint32) for module in modules
    ]
    rounded = all(not (bits & 0xFFFF).any() for bits in shared)
    codes = (view.tensors[f"{module}.weight"].raw() for module in modules)
    zeros = any(((code & 0x0F) == 8).any() or ((code >> 4) == 8).any() for code in codes)
    evidence = [
        f"compressed-tensors' names, global scales that BF16 {'has' if rounded else 'does not have'}, "
        f"{'negative zeros' if zeros else 'no negative zero'} among the codes"
    ]
    if rounded != zeros:
        return evidence, None
    return evidence, "llm-compressor" if rounded else "auto-round"


def _labels(folder: Path) -> Iterator[str]:
    """What the files say about their maker."""
    for name, keys in (
        ("config.json", ("quant_method", "producer", "provider", "version", "autoround_version")),
        ("hf_quant_config.json", ("producer",)),
    ):
        try:
            values = json_files.read(folder / name, folder, infinite=True, shown="it")
        except (FileNotFoundError, Stop):
            continue
        inner = values.get("quantization_config") if name == "config.json" else values
        inner = inner if isinstance(inner, dict) else {}
        for key in keys:
            if inner.get(key) is not None:
                yield f"{name}: {key} {text(inner[key])}"
        if name == "config.json" and values.get("transformers_version") is not None:
            yield f"{name}: transformers {text(values['transformers_version'])}"
    if (folder / "recipe.yaml").is_file():
        yield "recipe.yaml, as llm-compressor writes it"
