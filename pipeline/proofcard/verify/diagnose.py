"""The likeliest cause of a difference. A cause is named only when recomputing with it gives the stored bytes.

Slow and plain where `proofcard.nvfp4` is fast: numpy formulas with one thing done differently, on the rows
around the first difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.reading import comes_in
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.digest import sha256_file
from proofcard.documents.manifest import Manifest
from proofcard.nvfp4.bits import E4M3_VALUES
from proofcard.verify import recompute
from proofcard.verify.inventory import natural
from proofcard.verify.recompute import amax, codes, group_scale_2, operands, quantize

_WINDOW = 1 << 22  # weights recomputed for one hypothesis
_MOST = 0.5  # share of differing bytes from which it is another model

NOT_SHARED = "weight_scale_2 is not shared: this linear was packed with its own amax, not the group's"
NOT_SATURATING = "the cast of block scales does not saturate: above 464 it gave NaN, not 448"
FROM_FP32 = "packed from the FP32 dequantization of the FP8 source instead of BF16"
SCALES_FROM_FP32 = f"{FROM_FP32}, block scales alone"
SCALES_FROM_BF16 = "block scales are from the BF16 dequantization of the FP8 source instead of float32"
PLAIN_BF16 = "it holds the FP8 source's dequantization rounded to BF16, not in float32"
NIBBLES = "the two codes of each byte are swapped: the even column belongs in the low half"
NO_NEGATIVE_ZERO = "negatives that round to zero were written as 0x0, not 0x8"
TRUNCATED = "the BF16 dequantization was truncated, not rounded to nearest even"
PLAIN_FP32 = "it holds the FP32 dequantization of the FP8 source, not rounded to BF16"
FLIPPED = "one flipped bit: damage in storage or transfer"
ONE_BYTE = "one changed byte: damage, or an edit"
HOLE = "zeros from the first to the last difference: a hole left by an incomplete copy or download"
OTHER_SOURCE = "most bytes differ: another source model, or another revision of it"


@dataclass
class _Case:
    """One differing linear: rows `first` to `last` of it, `packed` and `scale` as they are stored."""

    source: Source
    group: tuple[str, ...]
    module: str
    packed: np.ndarray
    scale: np.ndarray
    scale_2: np.float32
    shared: np.float32
    first: int
    last: int
    float32: bool

    def values(self, module: str, fp32: bool = False) -> np.ndarray:
        """These rows of a source weight as float32: the BF16 values, or an FP8 weight's full product."""
        weight, scale_inv = operands(self.source, module)
        rows = weight[self.first : self.last]
        if scale_inv is None:
            return nvfp4.bf16_to_f32(rows)
        height, block = self.source.block[0], self.source.block
        part = scale_inv[self.first // height : -(-self.last // height)]
        if fp32:
            return nvfp4.fp8_block_to_f32(rows, part, block=block)
        return nvfp4.bf16_to_f32(nvfp4.fp8_block_to_bf16(rows, part, block=block))

    def scales_of(self, module: str) -> np.ndarray | None:
        """What a weight's block scales should come from, where that is not its BF16 values."""
        return self.values(module, fp32=True) if self.float32 else None

    def fits(self, values: np.ndarray, scale_2: np.float32, **how: Any) -> bool:
        """Whether these values, quantized so, are what is stored."""
        packed, scale = _quantize(values, scale_2, **how)
        return np.array_equal(scale, self.scale) and np.array_equal(packed, self.packed)


def linear(
    source: Source,
    group: tuple[str, ...],
    module: str,
    tensors: dict[str, Tensor],
    sealed: Manifest | None,
    float32: bool = False,
) -> str | None:
    """Of a quantized linear. None when no known cause gives what is stored."""
    shared = group_scale_2(source, group)
    expected = quantize(source, module, shared, float32)
    stored = {leaf: tensors.get(f"{module}.{leaf}") for leaf in expected}
    if any(tensor is None or tensor.size != expected[leaf].nbytes for leaf, tensor in stored.items()):
        return None
    raw = {leaf: tensor.raw() for leaf, tensor in stored.items() if tensor is not None}
    wanted = {
        leaf: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for leaf, array in expected.items()
    }
    if cause := _damage([(raw[leaf], wanted[leaf]) for leaf in wanted]):
        return cause
    packed: np.ndarray = raw["weight"].reshape(expected["weight"].shape)
    scale = raw["weight_scale"].reshape(expected["weight_scale"].shape)
    differs = (packed != expected["weight"]).any(axis=1) | (scale != expected["weight_scale"]).any(axis=1)
    height = source.block[0]
    first = int(np.argmax(differs)) // height * height
    last = min(len(packed), first + max(height, _WINDOW // (2 * packed.shape[1]) // height * height))
    window = slice(first, last)
    scale_2 = np.frombuffer(raw["weight_scale_2"].tobytes(), "<f4")[0]
    case = _Case(source, group, module, packed[window], scale[window], scale_2, shared, first, last, float32)
    if np.isfinite(scale_2) and scale_2 > 0:
        with np.errstate(all="ignore"):
            for cause in _hypotheses(case, expected["weight"][window]):
                return cause
    share = float(np.mean(raw["weight"] != wanted["weight"]))
    return _other_file(source, f"{module}.weight", sealed) or (OTHER_SOURCE if share > _MOST else None)


def _hypotheses(case: _Case, expected: np.ndarray) -> Iterator[str]:
    """Causes that give the stored rows, the most specific first."""
    values, scales_of = case.values(case.module), case.scales_of(case.module)
    same_scale_2 = case.scale_2 == case.shared
    if not same_scale_2 and case.fits(values, case.scale_2, scales_of=scales_of):
        own = nvfp4.weight_scale_2(amax(case.source, case.module))
        stored_amax, shared_amax = (float(scale * np.float32(2688)) for scale in (case.scale_2, case.shared))
        amaxes = f"amax {stored_amax:.6g}, not {shared_amax:.6g}"
        other = f"weight_scale_2 is of {amaxes}; everything else follows from it"
        yield NOT_SHARED if own == case.scale_2 else other
    if (case.scale == 0x7F).any() and case.fits(values, case.scale_2, saturate=False, scales_of=scales_of):
        yield NOT_SATURATING
    if operands(case.source, case.module)[1] is not None:
        full = case.values(case.module, fp32=True)
        if case.fits(full, case.scale_2):
            yield FROM_FP32
        if not case.float32 and case.fits(values, case.scale_2, scales_of=full):
            yield SCALES_FROM_FP32
        if case.float32 and case.fits(values, case.scale_2):
            yield SCALES_FROM_BF16
    for sibling in _siblings(case):
        if case.fits(case.values(sibling), case.scale_2, scales_of=case.scales_of(sibling)):
            yield f"it holds the weights of {sibling}"
    if same_scale_2:
        for cause, changed in ((NIBBLES, _swapped(expected)), (NO_NEGATIVE_ZERO, _positive_zeros(expected))):
            if np.array_equal(case.packed, changed):
                yield cause


def _siblings(case: _Case) -> list[str]:
    """Linears of the same shape with the same last name and layer, and those of the same group."""
    weights = case.source.tensors
    layer, _, rest = case.module.partition(".experts.")
    leaf, own = case.module.rpartition(".")[2], weights[f"{case.module}.weight"]
    same = (name.removesuffix(".weight") for name in weights if rest and name.startswith(f"{layer}.experts."))
    candidates = {name for name in same if name.rpartition(".")[2] == leaf} | set(case.group) - {case.module}
    others = {n: weights[f"{n}.weight"] for n in candidates if n != case.module and f"{n}.weight" in weights}
    alike = (n for n, tensor in others.items() if (tensor.shape, tensor.dtype) == (own.shape, own.dtype))
    return sorted(alike, key=natural)


def plain(
    source: Source, origin: str, tensor: Tensor, sealed: Manifest | None, float32: bool = False
) -> str | None:
    """Of a tensor that is not quantized; `origin` is its name in the source."""
    stored, (wanted, dtype) = tensor.bits(), recompute.plain(source, origin, float32, tensor.dtype)
    if stored.shape != wanted.shape:
        return _other_file(source, origin, sealed)
    share = 1.0
    if tensor.dtype == dtype:
        pair = tensor.raw(), np.ascontiguousarray(wanted).reshape(-1).view(np.uint8)
        share = float(np.mean(pair[0] != pair[1]))
        if cause := _damage([pair]):
            return cause
    if source.tensors[origin].dtype == "F8_E4M3":
        full = source.unrounded(origin)
        if float32 and tensor.dtype == "BF16" and np.array_equal(stored, source.bits(origin)):
            return PLAIN_BF16
        if tensor.dtype == "F32" and np.array_equal(stored, full):
            return PLAIN_FP32
        if tensor.dtype == "BF16" and np.array_equal(stored, (full.view(np.uint32) >> 16).astype(np.uint16)):
            return TRUNCATED
    return _other_file(source, origin, sealed) or (OTHER_SOURCE if share > _MOST else None)


def _damage(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str | None:
    """Whether storage or transfer did it: tensors as stored and as expected, in bytes."""
    changed = [(stored, np.flatnonzero(stored != wanted), wanted) for stored, wanted in pairs]
    changed = [(stored, places, wanted) for stored, places, wanted in changed if places.size]
    if len(changed) != 1:
        return None
    stored, places, wanted = changed[0]
    if places.size == 1:
        return FLIPPED if int(stored[places[0]] ^ wanted[places[0]]).bit_count() == 1 else ONE_BYTE
    return None if stored[places[0] : places[-1] + 1].any() else HOLE


def _other_file(source: Source, name: str, sealed: Manifest | None) -> str | None:
    """Whether the manifest names another content for the source file that holds this tensor."""
    path = source.tensors[name].path
    try:
        known = sealed.inputs["source"]["files"] if sealed is not None else {}
        entry = known.get(path.name)
        other = bool(known) and (entry is None or entry["sha256"] != _digest(path))
    except (KeyError, TypeError, AttributeError):
        return None
    return (
        f"the source's {path.name} is not the file that the manifest names: another revision"
        if other
        else None
    )


def _digest(path: Path) -> str:
    if (place := comes_in(path, path.parent)) is not None:
        folder, name = place
        return folder.digests(name)[0]
    status = path.stat()
    return _digest_of(path, status.st_size, status.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


# --- the formulas, once more ------------------------------------------------------------------------


def _quantize(
    values: np.ndarray,
    scale_2: np.float32,
    *,
    saturate: bool = True,
    scales_of: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`nvfp4.quantize` of float32 values, with variations."""
    blocks = (values if scales_of is None else scales_of).reshape(len(values), -1, nvfp4.BLOCK)
    wanted = np.abs(blocks).max(axis=2) / (np.float32(6) * scale_2)
    wanted[wanted == 0] = 1
    scale = _e4m3(np.minimum(wanted, np.float32(448)) if saturate else wanted)
    step = np.repeat(nvfp4.e4m3_to_f32(scale) * scale_2, nvfp4.BLOCK, axis=1)
    return codes(values, step), scale


def _e4m3(values: np.ndarray) -> np.ndarray:
    """Nearest code of values ≥ 0, ties to even, NaN above 464."""
    known = E4M3_VALUES[:0x7F]
    middle = (known[1:] + known[:-1]) / 2
    code = np.searchsorted(middle, values).astype(np.uint8)
    tie = (code < middle.size) & (middle[np.minimum(code, middle.size - 1)] == values)
    code += tie & (code % 2 == 1)
    code[~(values <= 464)] = 0x7F
    return code


def _swapped(packed: np.ndarray) -> np.ndarray:
    return packed << 4 | packed >> 4


def _positive_zeros(packed: np.ndarray) -> np.ndarray:
    low, high = packed & 0x0F, packed & 0xF0
    return np.where(low == 0x08, 0, low) | np.where(high == 0x80, 0, high)
