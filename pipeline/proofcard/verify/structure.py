"""Level `structure`: the checkpoint is complete, sane and consistent, by its own account and its shapes.

Needs no source; with one, the source's names say what must be there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_header
from proofcard.errors import Stop
from proofcard.nvfp4 import BLOCK, bf16_to_f32
from proofcard.progress import Bar
from proofcard.verify import quantconfig
from proofcard.verify.inventory import (
    CACHE,
    SCALES,
    Inventory,
    against_source,
    by_regularity,
    fused_groups,
    natural,
)
from proofcard.verify.quantconfig import MODEL
from proofcard.verify.report import Finding, Level

INDEX = "model.safetensors.index.json"
_E4M3_NAN = 0x7F
_KNOWN = {"BF16", "F16", "F32", "F64"}


def check(folder: Path, source: Source | None) -> Level:
    """Hold the tensors of `folder` to its configuration, and to the names and shapes of `source`."""
    level = Level("structure")
    tensors, broken = read_tensors(folder)
    level.add(*broken)
    if not tensors and not broken:
        level.unchecked.append("there is no .safetensors file in it")
        return level
    said = quantconfig.read(folder)
    level.add(*said.findings)
    if not tensors:
        return level
    if other := quantconfig.other_layout(said):
        level.unchecked.append(other)
        return level
    if said.group_size != BLOCK:
        level.add(
            Finding("mismatched", f"group_size is {said.group_size}, NVFP4's is {BLOCK}", file=said.file)
        )
    inventory = Inventory(tensors)
    level.add(*_index(folder, tensors))
    if source is not None:
        level.add(*against_source(inventory, source.weights(), said.tied))
        level.add(*_shapes(inventory, source))
    else:
        level.add(*by_regularity(inventory, said.config))
        level.add(*_one_shape(inventory))
    level.add(*_vocabulary(inventory, said))
    level.add(*quantconfig.patterns_name_modules(said, inventory))
    level.add(*_fused(inventory))
    level.add(*_cache(inventory, said.cache))
    groups = len(inventory.quantized)
    bits = Bits()
    with Bar("structure", groups, "quantized linears") as bar:
        for module in inventory.quantized:
            level.add(*_linear(module, tensors, bits))
            bar.advance()
    for name in inventory.cache:
        level.add(*_finite(tensors[name], bits, positive=name.endswith("_scale")))
    level.counts.update({"tensors": len(tensors), "quantized linears": groups})
    return level


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], list[Finding]]:
    """Every tensor of every file whose header can be read, and what is wrong with the others."""
    tensors: dict[str, Tensor] = {}
    findings = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found = read_header(path)
        except Stop as error:
            findings.append(Finding("mismatched", f"its header cannot be read: {error}", file=path.name))
            continue
        for name in sorted(tensors.keys() & found.keys()):
            message = f"it is in {tensors[name].path.name} and again in {path.name}"
            findings.append(Finding("extra", message, file=path.name, tensor=name))
        tensors |= found
    return tensors, findings


class Bits:
    """Tensors' bytes, each file mapped once: most tensors are four bytes, and there are many."""

    def __init__(self) -> None:
        self._maps: dict[Path, np.ndarray] = {}

    def __call__(self, tensor: Tensor) -> np.ndarray:
        """The bytes of one tensor, uint8, one dimension."""
        if tensor.path not in self._maps:
            self._maps[tensor.path] = np.memmap(tensor.path, np.uint8, "r")
        return self._maps[tensor.path][tensor.start : tensor.start + tensor.size]


def _linear(module: str, tensors: dict[str, Tensor], bits: Bits) -> Iterator[Finding]:
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
            yield from _finite(tensor, bits, positive=True)
        elif weight is not None and weight.dtype == "U8" and weight.size == 8 * tensor.size:
            yield from _block_scales(tensor, weight, bits)


def _squeezed(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Some publishers write a scalar as [1]; engines take both."""
    return () if wanted == () and shape == (1,) else shape


def _block_scales(scale: Tensor, weight: Tensor, bits: Bits) -> Iterator[Finding]:
    """Finite and positive. Zero only where it underflowed, and the formula then gives ±6 for all 16 codes."""
    codes = bits(scale)
    if not codes.size or (codes.min() > 0 and codes.max() < _E4M3_NAN):
        return
    wrong = codes >= _E4M3_NAN  # NaN, and everything with a sign
    zero = np.flatnonzero(codes == 0)
    packed = bits(weight).reshape(-1, BLOCK // 2)[zero]
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


def _finite(tensor: Tensor, bits: Bits, positive: bool) -> Iterator[Finding]:
    if tensor.dtype not in ("F32", "BF16"):
        yield Finding("mismatched", f"it is {tensor.dtype}, F32 or BF16 was expected", tensor=tensor.name)
        return
    raw = bits(tensor).tobytes()
    values = np.frombuffer(raw, "<f4")
    if tensor.dtype == "BF16":
        values = bf16_to_f32(np.frombuffer(raw, "<u2"))
    good = np.isfinite(values) & (values > 0) if positive else np.isfinite(values)
    if not good.all():
        at = int(np.argmin(good))
        message = f"value {at} is {values[at]}; it must be finite{' and above zero' if positive else ''}"
        offset = at * tensor.size // values.size
        yield Finding("mismatched", message, tensor=tensor.name, offset=offset, found=str(values[at]))


def _fused(inventory: Inventory) -> Iterator[Finding]:
    """What an engine fuses is quantized together and has one weight_scale_2."""
    bits, quantized = Bits(), set(inventory.quantized)
    linears = {name.removesuffix(".weight") for name in inventory.model if name.endswith(".weight")}
    for group in fused_groups(linears | quantized):
        inside = [module for module in group if module in quantized]
        if inside and len(inside) < len(group):
            plain = next(module for module in group if module not in quantized)
            yield Finding("mismatched", f"not quantized, and {inside[0]} is", tensor=f"{plain}.weight")
        scales = [inventory.tensors.get(f"{module}.weight_scale_2") for module in inside]
        known = [
            (scale, bits(scale).tobytes()) for scale in scales if scale is not None and scale.dtype == "F32"
        ]
        for scale, value in known[1:]:
            if value != known[0][1]:
                first, second = (str(np.frombuffer(v, "<f4")[:1]).strip("[]") for v in (known[0][1], value))
                message = f"it is {second}; {known[0][0].name} is {first}, and both must be equal"
                yield Finding("mismatched", message, tensor=scale.name, expected=first, found=second)


def _cache(inventory: Inventory, algorithm: Any) -> Iterator[Finding]:
    """A scale for k and v of every layer when the configuration says that the cache has them, else none."""
    if algorithm is None:
        for name in inventory.cache:
            yield Finding("extra", "the configuration says that the KV cache is not quantized", tensor=name)
        return
    modules = inventory.modules()
    wanted = {
        f"{module}.{module.rpartition('.')[2][0]}_scale"
        for module in modules
        if module.rpartition(".")[2] in ("k_proj", "v_proj")
    }
    for name in inventory.cache:
        if name.rpartition(".")[0] not in modules:
            yield Finding("extra", "a scale or bias of the KV cache beside no module", tensor=name)
    for name in sorted(wanted - set(inventory.cache), key=natural):
        yield Finding("missing", f"the configuration says that the KV cache is {algorithm}", tensor=name)
    if not wanted and not any(name.endswith(CACHE[:2]) for name in inventory.cache):
        message = f"it says that the KV cache is {algorithm}, and no layer has a scale for it"
        yield Finding("missing", message, file=MODEL)


def _vocabulary(inventory: Inventory, said: quantconfig.Said) -> Iterator[Finding]:
    """Input and output embeddings, by config.json's vocabulary."""
    size = said.config.get("vocab_size")
    if not isinstance(size, int) or "tie_word_embeddings" not in said.config:
        return
    outside = [
        inventory.tensors[name] for name in inventory.model if not any(p.isdigit() for p in name.split("."))
    ]
    found = sum(len(tensor.shape) == 2 and tensor.shape[0] >= size for tensor in outside)
    if found < (1 if said.tied else 2):
        message = f"{found} tensors are as long as config.json's vocabulary of {size}"
        yield Finding("missing", f"{message}: an embedding or the output head is not there", file=MODEL)


def _shapes(inventory: Inventory, source: Source) -> Iterator[Finding]:
    for name in sorted(inventory.model & source.tensors.keys(), key=natural):
        tensor, wanted = inventory.tensors[name], source.tensors[name].shape
        packed = tensor.dtype == "U8" and source.tensors[name].dtype != "U8"
        have = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if packed and tensor.shape else tensor.shape
        if have != wanted:
            message = f"it holds {list(have)} weights, the source {list(wanted)}"
            yield Finding("mismatched", message, tensor=name)
        elif not packed and tensor.dtype not in _KNOWN and tensor.dtype != source.dtype(name):
            yield Finding(
                "mismatched", f"it is {tensor.dtype}, in the source {source.dtype(name)}", tensor=name
            )


def _one_shape(inventory: Inventory) -> Iterator[Finding]:
    """The experts of a layer have one shape and dtype each for what they have in common."""
    first: dict[tuple[str, str], Tensor] = {}
    for name in sorted(inventory.tensors, key=natural):
        before, expert, after = name.partition(".experts.")
        if not expert or not after.partition(".")[0].isdigit():
            continue
        tensor = inventory.tensors[name]
        other = first.setdefault((before, after.partition(".")[2]), tensor)
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            found, fellow = (f"{one.dtype} {list(one.shape)}" for one in (tensor, other))
            message = f"it is {found}; {other.name} is {fellow}"
            yield Finding("mismatched", message, tensor=name)


def _index(folder: Path, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """The index names every tensor's file. One file alone needs none."""
    path = folder / INDEX
    if not path.is_file():
        if len({tensor.path for tensor in tensors.values()}) > 1:
            yield Finding(
                "missing", "the weights are in several files, and nothing says which is where", file=INDEX
            )
        return
    try:
        listed = json.loads(path.read_bytes().decode())["weight_map"]
        named = dict(listed.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield Finding("mismatched", f"it is no index: {error}", file=INDEX)
        return
    for name in sorted(named.keys() | tensors.keys(), key=natural):
        holder = tensors[name].path.name if name in tensors else None
        if named.get(name) != holder:
            message = f"{INDEX} says {named.get(name)}; it is in {holder or 'no file'}"
            kind: Any = "missing" if holder is None else "mismatched"
            yield Finding(kind, message, file=INDEX, tensor=name)
