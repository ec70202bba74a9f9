"""Level `structure`: the checkpoint is complete, valid and consistent, by its own configuration and shapes.

Needs no source; with one, the source's names say what must be there.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from proofcard.checkpoint import ties
from proofcard.checkpoint.configuration import CONFIG
from proofcard.checkpoint.dialects.declarations import COMPRESSED
from proofcard.checkpoint.dialects.layouts import block_of
from proofcard.checkpoint.dialects.view import viewed
from proofcard.checkpoint.shards import INDEX, read_index
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.nvfp4 import BLOCK
from proofcard.verify import (
    dimensions,
    excluded,
    kv_cache,
    layout,
    linear_steps,
    linears,
    other_files,
    plausible,
    quantconfig,
    regularity,
    schemes,
    shapes,
)
from proofcard.verify.config_comparison import Comparison
from proofcard.verify.inventory import Inventory, against_source, fused_groups, natural
from proofcard.verify.quantconfig import Declaration
from proofcard.verify.report import Finding, Level
from proofcard.verify.scheme_parsers import SMOOTHED
from proofcard.verify.steps import LOCAL, Passing
from proofcard.verify.weight_files import incomplete, not_counted, read_tensors

_MANY = 0.25  # share of the plain matrices from which config.json may name their dtype


def check(
    folder: Path, source: Source | None, sealed: Manifest | None = None, passing: Passing = LOCAL
) -> Level:
    """Check tensors against the configuration, and names, shapes and settings against `source`.

    `sealed`, its manifest, records what our recipe requested.
    """
    level = Level("structure")
    tensors, broken = read_tensors(folder)
    level.add(*broken)
    level.homes = {name: tensor.path.name for name, tensor in tensors.items()}
    if incomplete(broken):
        return level
    if not tensors and not broken:
        level.unchecked.append("it has no tensors: there is no .safetensors file, or only empty ones")
        return level
    declared = quantconfig.read(folder)
    level.add(*declared.findings)
    if not tensors:
        return level
    level.notes += not_counted(folder, tensors)
    view, source = viewed(tensors, source, declared.method in COMPRESSED)
    inventory = Inventory(view.tensors, eight=declared.schemes is not None)
    if not_known := list(not_understood(declared, inventory, source)):
        level.unchecked += not_known
        return level
    blocks = {module: block for module in inventory.quantized if (block := _block(view.tensors, module))}
    unscaled = _without_input_scales(inventory)
    # First what reads large tensors: afterwards their shards may have gone again.
    findings, largest = linear_steps.every(inventory, view, declared, blocks, unscaled, passing)
    if declared.group_size is not None and declared.group_size not in list(blocks.values()):
        sizes = ", ".join(map(str, sorted(set(blocks.values())))) or str(BLOCK)
        message = f"group_size is {declared.group_size}, the tensors' is {sizes}"
        level.add(Finding("mismatched", message, file=declared.file))
    level.notes += view.mappings
    level.group(_index(folder, tensors))
    tensors = view.tensors
    if source is not None:
        bound = ties.of_source(source)
        level.group(against_source(inventory, source.weights(), bound))
        level.group(shapes.of_source(inventory, source))
        reported = any(finding.file == CONFIG for finding in declared.findings)
        if declared.config or not reported:
            compared = Comparison(declared.config, source.config, source.path, _dtypes(inventory))
            level.add(*compared.findings)
            level.unchecked += compared.unchecked
    else:
        bound = ties.of_checkpoint(declared.config, folder, tensors)
        regularity.check(inventory, declared.config, level)
        level.group(shapes.regular(inventory))
        level.group(dimensions.check(declared.config, {name: tensors[name] for name in inventory.model}))
    level.add(*_embeddings(inventory, declared, bound, source))
    if declared.schemes is not None:
        level.group(schemes.check(declared.schemes, inventory, blocks, level.notes))
    else:
        level.group(excluded.patterns_name_modules(declared, inventory, bound, level.notes))
    other_files.check(
        folder, source.path if source is not None else None, declared.config, sealed is not None, level
    )
    level.group(_fused(inventory))
    kv_cache.check(inventory, declared, sealed, level)
    if unscaled:
        level.notes.append(
            "no input scales are stored: engines quantize only the weights, or measure inputs at run time"
        )
    for name in inventory.cache:
        findings += linears.finite(tensors[name], positive=name.endswith("_scale"))
    findings += plausible.biases(inventory)
    findings += largest.judge(fused_groups(inventory.quantized))
    level.group(findings)
    level.counts.update({"tensors": len(tensors), "quantized linears": len(inventory.quantized)})
    level.counts.update({"FP8 linears": len(inventory.fp8)} if inventory.fp8 else {})
    level.findings = [replace(each, tensor=view.stored_as(each.tensor)) for each in level.findings]
    return level


def not_understood(
    declared: Declaration,
    inventory: Inventory,
    source: Source | None,
    tensors_alone: bool = False,
) -> Iterator[str]:
    """Why the checkpoint cannot be checked, one sentence per reason.

    `tensors_alone`: the configuration declares nothing and is not consulted.
    """
    if not tensors_alone and (other := quantconfig.other_layout(declared)):
        yield other
        return
    yield from declared.unknown
    yield from layout.unexplained(inventory, source, declared.algorithm == SMOOTHED)
    if nothing := layout.quantized_nothing(inventory):
        yield nothing
    if source is not None and (fused := layout.fused_experts(inventory, source)):
        yield fused


def _dtypes(inventory: Inventory) -> set[str]:
    """The dtypes that config.json may name: each of a good part of the matrices that are not packed."""
    plain = [inventory.tensors[n] for n in inventory.model if len(inventory.tensors[n].shape) == 2]
    count = Counter(tensor.dtype for tensor in plain if tensor.dtype in layout.FLOATS)
    return {dtype for dtype, number in count.items() if number >= _MANY * count.total()}


def _block(tensors: dict[str, Tensor], module: str) -> int | None:
    weight, scale = tensors.get(f"{module}.weight"), tensors.get(f"{module}.weight_scale")
    return block_of(weight, scale) if weight is not None and scale is not None else None


def _without_input_scales(inventory: Inventory) -> bool:
    """Whether not one quantized linear has an input scale: then engines measure their inputs themselves."""
    modules = inventory.quantized
    return len(modules) > 1 and not any(f"{module}.input_scale" in inventory.tensors for module in modules)


def _fused(inventory: Inventory) -> Iterator[Finding]:
    """What an engine fuses is quantized together, and has one weight_scale_2 and one input_scale."""
    quantized = set(inventory.quantized)
    linears = {name.removesuffix(".weight") for name in inventory.model if name.endswith(".weight")}
    for group in fused_groups(linears | quantized):
        inside = [module for module in group if module in quantized]
        if inside and len(inside) < len(group):
            plain = next(module for module in group if module not in quantized)
            yield Finding("mismatched", f"not quantized, although {inside[0]} is", tensor=f"{plain}.weight")
        for leaf in ("weight_scale_2", "input_scale"):
            scales = [inventory.tensors.get(f"{module}.{leaf}") for module in inside]
            known = [
                (scale, scale.raw().tobytes())
                for scale in scales
                if scale is not None and scale.dtype == "F32"
            ]
            for scale, value in known[1:]:
                if value != known[0][1]:
                    first, second = (
                        str(np.frombuffer(v, "<f4")[:1]).strip("[]") for v in (known[0][1], value)
                    )
                    message = f"it is {second}; {known[0][0].name} is {first}, and both must be equal"
                    yield Finding("mismatched", message, tensor=scale.name, expected=first, found=second)


def _embeddings(
    inventory: Inventory, declared: Declaration, bound: ties.Ties, source: Source | None
) -> Iterator[Finding]:
    """Input embedding and output head: both are stored, or one is shared; tied ones are equal."""
    if bound.contradicted:
        if source is None:
            message = (
                "tie_word_embeddings says that both embeddings are tied, but the two that are stored differ"
            )
            yield Finding("mismatched", message, file=CONFIG)
        return
    size = declared.config.get("vocab_size")
    if source is not None or not isinstance(size, int):
        return
    outside = [
        inventory.tensors[name] for name in inventory.model if not any(p.isdigit() for p in name.split("."))
    ]
    found = sum(len(tensor.shape) == 2 and tensor.shape[0] >= size for tensor in outside)
    if found < (1 if bound.tied else 2):
        message = f"{found} tensors are as long as config.json's vocabulary of {size}"
        yield Finding("missing", f"{message}: an embedding or the output head is not there", file=CONFIG)


def _index(folder: Path, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """The index names every tensor's file. One file alone needs none."""
    try:
        named = read_index(folder)
    except Stop:
        return  # named by `read_tensors`
    if named is None:
        if len({tensor.path for tensor in tensors.values()}) > 1:
            yield Finding(
                "missing", "the weights are in several files, and nothing says which is where", file=INDEX
            )
        return
    for name in sorted(named.keys() | tensors.keys(), key=natural):
        holder = tensors[name].path.name if name in tensors else None
        if named.get(name) != holder:
            message = f"{INDEX} says {named.get(name)}; it is in {holder or 'no file'}"
            kind: Any = "missing" if holder is None else "mismatched"
            yield Finding(kind, message, file=INDEX, tensor=name)
