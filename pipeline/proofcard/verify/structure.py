"""Level `structure`: the checkpoint is complete, sane and consistent, by its own account and its shapes.

Needs no source; with one, the source's names say what must be there.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proofcard.checkpoint import ties
from proofcard.checkpoint.shards import INDEX, read_index
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.nvfp4 import BLOCK
from proofcard.progress import Bar
from proofcard.verify import (
    dimensions,
    kv_cache,
    layout,
    other_files,
    plausible,
    quantconfig,
    regularity,
    shapes,
)
from proofcard.verify.inventory import SCALES, Inventory, against_source, fused_groups, natural
from proofcard.verify.plausible import BlockScales
from proofcard.verify.report import Finding, Level
from proofcard.verify.settings import MODEL, Comparison
from proofcard.verify.shards import incomplete, not_counted, read_tensors

_E4M3_NAN = 0x7F
_MANY = 0.25  # share of the plain matrices from which config.json may name their dtype


def check(folder: Path, source: Source | None, sealed: Manifest | None = None) -> Level:
    """Hold the tensors of `folder` to its configuration, and names, shapes and settings to those of `source`.

    `sealed`, its manifest, tells what our own recipe asked for.
    """
    level = Level("structure")
    tensors, broken = read_tensors(folder)
    level.add(*broken)
    if incomplete(broken):
        return level
    if not tensors and not broken:
        level.unchecked.append("there is no tensor in it: no .safetensors file, or only empty ones")
        return level
    said = quantconfig.read(folder)
    level.add(*said.findings)
    if not tensors:
        return level
    inventory = Inventory(tensors)
    if not_known := list(not_understood(said, inventory, source)):
        level.unchecked += not_known
        return level
    if said.group_size not in (BLOCK, None):
        level.add(
            Finding("mismatched", f"group_size is {said.group_size}, NVFP4's is {BLOCK}", file=said.file)
        )
    level.notes += not_counted(folder, tensors)
    level.group(_index(folder, tensors))
    if source is not None:
        bound = ties.of_source(source)
        level.group(against_source(inventory, source.weights(), bound))
        level.group(shapes.of_source(inventory, source))
        if said.config or not any(finding.file == MODEL for finding in said.findings):  # else it is named
            compared = Comparison(said.config, source.config, source.path, _dtypes(inventory))
            level.add(*compared.findings)
            level.unchecked += compared.unchecked
    else:
        bound = ties.of_checkpoint(said.config, folder, tensors)
        regularity.check(inventory, said.config, level)
        level.group(shapes.regular(inventory))
        level.group(dimensions.check(said.config, {name: tensors[name] for name in inventory.model}))
    level.add(*_embeddings(inventory, said, bound, source))
    level.group(quantconfig.patterns_name_modules(said, inventory, bound, level.notes))
    other_files.check(
        folder, source.path if source is not None else None, said.config, sealed is not None, level
    )
    level.group(_fused(inventory))
    kv_cache.check(inventory, said, sealed, level)
    groups = len(inventory.quantized)
    largest = BlockScales()
    found: list[Finding] = []
    with Bar("structure", groups, "quantized linears") as bar:
        for module in inventory.quantized:
            found += _linear(module, tensors, largest)
            bar.advance()
    for name in inventory.cache:
        found += _finite(tensors[name], positive=name.endswith("_scale"))
    found += plausible.biases(inventory)
    found += largest.judge(fused_groups(inventory.quantized))
    level.group(found)
    level.counts.update({"tensors": len(tensors), "quantized linears": groups})
    return level


def not_understood(
    said: quantconfig.Said, inventory: Inventory, source: Source | None, tensors_alone: bool = False
) -> Iterator[str]:
    """Why the checkpoint cannot be judged, a sentence each; nothing where it can.

    `tensors_alone`: no configuration says anything, and none is asked.
    """
    if not tensors_alone and (other := quantconfig.other_layout(said)):
        yield other
        return
    yield from said.unknown
    yield from layout.unexplained(inventory, source)
    if nothing := layout.quantized_nothing(inventory):
        yield nothing
    if source is not None and (fused := layout.fused_experts(inventory, source)):
        yield fused


def _dtypes(inventory: Inventory) -> set[str]:
    """The dtypes that config.json may name: each of a good part of the matrices that are not packed."""
    plain = [inventory.tensors[n] for n in inventory.model if len(inventory.tensors[n].shape) == 2]
    count = Counter(tensor.dtype for tensor in plain if tensor.dtype in layout.FLOATS)
    return {dtype for dtype, number in count.items() if number >= _MANY * count.total()}


def _linear(module: str, tensors: dict[str, Tensor], largest: BlockScales) -> Iterator[Finding]:
    """One quantized linear: its four tensors, their shapes, its scales."""
    names = {leaf: f"{module}.{leaf}" for leaf in ("weight", *SCALES)}
    absent = [name for name in names.values() if name not in tensors]
    for name in absent:
        yield Finding("missing", "a quantized linear has it", tensor=name)
    weight = tensors.get(names["weight"])
    rows, half = weight.shape if weight is not None and len(weight.shape) == 2 else (0, 0)
    if weight is not None and (weight.dtype != "U8" or not rows or 2 * half % BLOCK):
        message = (
            f"packed weights are U8 in rows of whole blocks; this is {weight.dtype} {list(weight.shape)}"
        )
        yield Finding("mismatched", message, tensor=weight.name)
    for leaf, dtype in SCALES.items():
        if (tensor := tensors.get(names[leaf])) is None:
            continue
        wanted = (rows, 2 * half // BLOCK) if leaf == "weight_scale" else ()
        if tensor.dtype != dtype or (weight is not None and _squeezed(tensor.shape, wanted) != wanted):
            message = f"it is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(wanted)}"
            yield Finding("mismatched", message, tensor=tensor.name)
        elif leaf != "weight_scale":
            yield from _finite(tensor, positive=True)
        elif weight is not None and weight.dtype == "U8" and weight.size == 8 * tensor.size:
            yield from _block_scales(tensor, weight)
            codes = tensor.raw()
            if codes.size and codes.max() < _E4M3_NAN:
                largest.add(module, codes)


def _squeezed(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Some publishers write a scalar as [1]; engines take both."""
    return () if wanted == () and shape == (1,) else shape


def _block_scales(scale: Tensor, weight: Tensor) -> Iterator[Finding]:
    """Finite and positive. Zero only where it underflowed, and the formula then gives ±6 for all 16 codes."""
    codes = scale.raw()
    if not codes.size or (codes.min() > 0 and codes.max() < _E4M3_NAN):
        return
    wrong = codes >= _E4M3_NAN  # NaN, and everything with a sign
    zero = np.flatnonzero(codes == 0)
    packed = weight.raw().reshape(-1, BLOCK // 2)[zero]
    wrong[zero[((packed & 0x77) != 0x77).any(axis=1)]] = True
    if count := int(wrong.sum()):
        at = int(np.argmax(wrong))
        code = int(codes[at])
        what = "NaN" if code & 0x7F == _E4M3_NAN else "negative" if code else "zero, its codes are not all ±6"
        rows = f"{count} of {codes.size} block scales are not finite and positive"
        yield Finding(
            "mismatched", f"byte {at} is 0x{code:02x} ({what}); {rows}", tensor=scale.name, offset=at,
            found=f"0x{code:02x}",
        )  # fmt: skip


def _finite(tensor: Tensor, positive: bool) -> Iterator[Finding]:
    if tensor.dtype not in ("F32", "BF16"):
        yield Finding("mismatched", f"it is {tensor.dtype}, F32 or BF16 was expected", tensor=tensor.name)
        return
    values = plausible.floats(tensor, tensor.raw())
    good = np.isfinite(values) & (values > 0) if positive else np.isfinite(values)
    if not good.all():
        at = int(np.argmin(good))
        message = f"value {at} is {values[at]}; it must be finite{' and above zero' if positive else ''}"
        offset = at * tensor.size // values.size
        yield Finding("mismatched", message, tensor=tensor.name, offset=offset, found=str(values[at]))
    yield from plausible.scale(tensor, values)


def _fused(inventory: Inventory) -> Iterator[Finding]:
    """What an engine fuses is quantized together, and has one weight_scale_2 and one input_scale."""
    quantized = set(inventory.quantized)
    linears = {name.removesuffix(".weight") for name in inventory.model if name.endswith(".weight")}
    for group in fused_groups(linears | quantized):
        inside = [module for module in group if module in quantized]
        if inside and len(inside) < len(group):
            plain = next(module for module in group if module not in quantized)
            yield Finding("mismatched", f"not quantized, and {inside[0]} is", tensor=f"{plain}.weight")
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
    inventory: Inventory, said: quantconfig.Said, bound: ties.Ties, source: Source | None
) -> Iterator[Finding]:
    """Input embedding and output head: both there, or one that stands for both; equal where they are one."""
    if bound.contradicted:
        if source is None:
            message = (
                "tie_word_embeddings says that both embeddings are one, and the two that are stored differ"
            )
            yield Finding("mismatched", message, file=MODEL)
        return
    size = said.config.get("vocab_size")
    if source is not None or not isinstance(size, int):
        return
    outside = [
        inventory.tensors[name] for name in inventory.model if not any(p.isdigit() for p in name.split("."))
    ]
    found = sum(len(tensor.shape) == 2 and tensor.shape[0] >= size for tensor in outside)
    if found < (1 if bound.tied else 2):
        message = f"{found} tensors are as long as config.json's vocabulary of {size}"
        yield Finding("missing", f"{message}: an embedding or the output head is not there", file=MODEL)


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
