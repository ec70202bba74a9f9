"""Quantized linears held to the source: by ModelOpt's `max` first, then by every rule of their dialect.

| outcome | means |
|---|---|
| follows | every byte follows from the source by a known rule |
| searched | every code is right for the stored scales, and many block scales follow by no known rule |
| rounded | the codes are close to the weights, and too many are not the nearest (GPTQ, SignRound) |
| folded | without the best factors for rows and columns it is the source's weight (AWQ, SmoothQuant) |
| differs | anything else, a few odd blocks among them |
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from proofcard.checkpoint import floats
from proofcard.checkpoint.dialects import fp8
from proofcard.checkpoint.dialects.following import (
    Attempt,
    Difference,
    Stored,
    Verdict,
    relative_error,
    same_bits,
    verdict,
)
from proofcard.checkpoint.dialects.rules import MAX, MAX_CLAMPED, Rule
from proofcard.checkpoint.dialects.view import View
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.nvfp4 import BLOCK
from proofcard.verify import diagnose
from proofcard.verify.folded import undone
from proofcard.verify.held import held, is_plain, loaded
from proofcard.verify.recompute import Reader, amax, group_scale_2, quantize, remembering
from proofcard.verify.report import Finding
from proofcard.verify.strips import follow_max

Array = np.ndarray[Any, Any]

_ODD = 1 / 8  # share of a linear's block scales from which a search and not damage changed them
_ROUNDED = 0.01  # share of code bytes from which their rounding was chosen
_CLOSE, _BLOCK_CLOSE = (
    0.1,
    0.6,
)  # relative squared error of a linear and of its worst block that data may cost
_FOLDED, _BETTER = 0.03, 1.5  # relative squared error without the best factors, and how much it has to gain
_STEP = 1e-3  # of a second-level scale: what is closer, no search chose; they go by 1% and more
_PAIRS = (("gate_proj", "up_proj"), ("w1", "w3"))


@dataclass
class Judged:
    """One quantized linear.

    `rules` are those by which every byte follows; `ratios` to the max rule's scales.
    """

    module: str
    outcome: str
    rules: tuple[Rule, ...] = ()
    blocks: int = 0
    odd: int = 0
    ties: int = 0
    ratios: Array = field(default_factory=lambda: np.empty(0, np.float32))
    error: float = 0.0
    off: float = 0.0  # share of the bytes of codes that are not the nearest under the stored scales
    findings: list[Finding] = field(default_factory=list)  # against the nearest rule
    against_given: list[Finding] = field(default_factory=list)  # against the scales as they are stored
    shared: bool = True  # whether its second-level scale follows, or is one that a search may choose
    factors: Array | None = None  # of columns, where the linear is folded
    by_max: bool = True  # whether the nearest rule is ModelOpt's max, of which causes are known


@dataclass
class Group:
    """The quantized linears of a fused group, what was compared, and tensors of the wrong dtype or shape."""

    judged: list[Judged] = field(default_factory=list)
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def compare_group(
    source: Source, modules: tuple[str, ...], quantized: set[str], view: View, float32: bool
) -> Group:
    """A fused group, most often a single linear. A member that is not quantized has its say in the amax."""
    result = Group()
    members = [module for module in modules if module in quantized]  # others are compared as plain tensors
    tensors: dict[str, dict[str, Tensor]] = {}
    for module in members:
        found, faults = held(source, module, view, result.counts)
        result.findings += [(module, fault) for fault in faults]
        if found is not None:
            tensors[module] = found
    plain_max = all(is_plain(view, module) for module in members)
    follows = follow_max(source, modules, tensors, float32) if plain_max else {}
    read = remembering()
    simple = all(module in follows and follows[module][0] for module in members)
    scale_2 = group_scale_2(source, modules, read) if plain_max and not simple else None
    for module, own in tensors.items():
        known = follows.get(module)
        if known is not None and known[0]:
            rules = (MAX,) if known[1] else (MAX, MAX_CLAMPED)
            result.judged.append(Judged(module, "follows", rules, own["weight_scale"].size))
            continue
        stored = loaded(module, own, view)
        if (
            known is None
            and scale_2 is not None
            and _follows_max(source, module, scale_2, stored, float32, read)
        ):
            rules = (MAX,) if (stored.scales == 0).any() else (MAX, MAX_CLAMPED)
            result.judged.append(Judged(module, "follows", rules, stored.scales.size))
        else:
            judged = _judge(source, modules, module, quantized, view, stored, read)
            if float32 and source.is_fp8(f"{module}.weight") and scale_2 is not None:
                _hold_to_float32(judged, quantize(source, module, scale_2, True), stored)
            result.judged.append(judged)
    return result


def _follows_max(
    source: Source, module: str, scale_2: np.float32, stored: Stored, float32: bool, read: Reader
) -> bool:
    if not same_bits(stored.shared, scale_2):
        return False
    wanted = quantize(source, module, scale_2, float32, read)
    return np.array_equal(wanted["weight_scale"], stored.scales) and np.array_equal(
        wanted["weight"], stored.codes
    )


def _judge(
    source: Source, group: tuple[str, ...], module: str, quantized: set[str], view: View, stored: Stored,
    read: Reader,
) -> Judged:  # fmt: skip
    bits = _bits(source, module)
    whole = max(amax(source, one, read) for one in group)
    inside = max(amax(source, one, read) for one in group if one in quantized)
    amaxes = [whole] if whole == inside else [whole, inside]
    found = verdict(bits, amaxes, stored, _partner(source, group, module))
    nearest = found.nearest
    result = Judged(module, "differs", tuple(found.fitting), found.blocks, nearest.scales.count, nearest.ties)
    if found.fitting:
        result.outcome = "follows"
        result.ties = min(attempt.ties for attempt in found.attempts if attempt.fits)
        return result
    result.by_max = nearest.rule in (MAX, MAX_CLAMPED) and stored.block == BLOCK
    result.ratios = np.concatenate(found.ratios) if found.ratios else result.ratios
    result.off = found.off / max(1, stored.codes.size)
    result.findings = _findings(module, found, stored, result.by_max)
    if found.follows_given:
        clipped = _clipped(nearest, stored, amax(source, module, read))
        searched = clipped or nearest.scales.count >= _ODD * found.blocks
        result.outcome = "searched" if searched else "differs"
        result.shared = clipped or nearest.same_shared or _apart(stored.shared, nearest.wanted)
        return result
    codes = min((given.codes for given in found.given), key=lambda each: each.count)
    result.against_given = [
        _difference(f"{module}.weight", codes, "from the source and the stored scales", stored.codes.size)
    ]
    result.error, worst = relative_error(bits, stored)
    if result.off >= _ROUNDED and result.error <= _CLOSE and worst <= _BLOCK_CLOSE:
        result.outcome = "rounded"
    without, factors = undone(bits, stored)
    if without <= _FOLDED and without * _BETTER < result.error:
        result.outcome, result.error = "folded", without
    result.factors = factors
    return result


def _apart(found: np.float32, wanted: np.float32) -> bool:
    """Whether a second-level scale is as far from the one that follows as a search takes it."""
    with np.errstate(all="ignore"):
        return not abs(float(found / wanted) - 1) < _STEP


def _clipped(nearest: Attempt, stored: Stored, own: np.float32) -> bool:
    """Whether all follows from a smaller amax than the weights have, as a search for clipping chooses it.

    The linear's own amax in a fused group is none: then a scale was not shared that should be.
    """
    if nearest.same_shared or nearest.scales.count or nearest.codes.count:
        return False
    smaller = (stored.shared > nearest.wanted) == stored.layout.divides
    return bool(smaller) and not same_bits(nearest.rule.shared(own), stored.shared)


def _hold_to_float32(judged: Judged, wanted: dict[str, Array], stored: Stored) -> None:
    """A recipe that dequantizes FP8 to float32 has other block scales than rules that start from BF16."""
    scales, codes = Difference(), Difference()
    scales.add(stored.scales, wanted["weight_scale"], 0)
    codes.add(stored.codes, wanted["weight"], 0)
    shared = np.float32(wanted["weight_scale_2"])
    findings = (
        []
        if same_bits(stored.shared, shared)
        else [_shared(f"{judged.module}.weight_scale_2", stored.shared, shared)]
    )
    for leaf, difference, size in (
        ("weight_scale", scales, stored.scales.size), ("weight", codes, stored.codes.size),
    ):  # fmt: skip
        if difference.count:
            findings.append(_difference(f"{judged.module}.{leaf}", difference, "from the source", size))
    judged.outcome, judged.findings, judged.rules, judged.by_max = "differs", findings, (), True


def _bits(source: Source, module: str) -> Array:
    """A weight in BF16."""
    name = f"{module}.weight"
    return floats.converted(source.bits(name), source.dtype(name), "BF16")


def _partner(source: Source, group: tuple[str, ...], module: str) -> Array | None:
    """The weight of the other of an expert's gate and up."""
    leaf = module.rpartition(".")[2]
    if ".experts." not in module or len(group) != 2 or not any(leaf in pair for pair in _PAIRS):
        return None
    other = next(one for one in group if one != module)
    bits = _bits(source, other)
    return bits if bits.shape == source.tensors[f"{module}.weight"].shape else None


def _findings(module: str, found: Verdict, stored: Stored, by_max: bool) -> list[Finding]:
    """Each tensor of it that is not as the nearest rule gives it."""
    nearest = found.nearest
    findings = []
    if not nearest.same_shared:
        findings.append(_shared(f"{module}.weight_scale_2", stored.shared, nearest.wanted))
    for leaf, difference, size in (
        ("weight_scale", nearest.scales, stored.scales.size), ("weight", nearest.codes, stored.codes.size),
    ):  # fmt: skip
        if difference.count:
            findings.append(_difference(f"{module}.{leaf}", difference, "from the source", size))
    if len(findings) == 1 and findings[0].differing_bytes == 1 and nearest.same_shared and not by_max:
        one = nearest.scales if nearest.scales.count else nearest.codes
        flipped = (one.found ^ one.expected).bit_count() == 1
        findings[0] = replace(findings[0], cause=diagnose.FLIPPED if flipped else diagnose.ONE_BYTE)
    return findings


def _shared(name: str, found: np.float32, wanted: np.float32) -> Finding:
    """A second-level scale that is not as the nearest rule gives it."""
    have, want = (np.frombuffer(value.tobytes(), np.uint8) for value in (found, wanted))
    difference = Difference()
    difference.add(have, want, 0)
    said = _difference(name, difference, "from the source", 4)
    values = f" (as a number {found}, not {wanted})"
    return replace(said, message=said.message.replace("; ", f"{values}; ", 1))


def _difference(name: str, difference: Difference, whence: str, size: int) -> Finding:
    found, expected = f"0x{difference.found:02x}", f"0x{difference.expected:02x}"
    message = (
        f"byte {difference.offset} is {found}, {whence} follows {expected}; {difference.count} of {size} "
        "bytes differ"
    )
    return Finding(
        "mismatched", message, tensor=name, offset=difference.offset, expected=expected, found=found,
        differing_bytes=difference.count,
    )  # fmt: skip


# --- FP8 beside it --------------------------------------------------------------------------------


def compare_fp8(
    source: Source, module: str, tensors: dict[str, Tensor],
    compare: Callable[[str, Array, Array], Finding | None],
) -> tuple[list[Finding], Counter[str]]:  # fmt: skip
    """One linear in FP8. `compare` names the first byte that differs.

    Raises:
        ValueError: for a scale of a shape that no rule has.
    """
    weight, scale = tensors[f"{module}.weight"], tensors[f"{module}.weight_scale"]
    bits = _bits(source, module)
    counts: Counter[str] = Counter({"FP8 linears": 1, "tensors": 2, "bytes": weight.size + scale.size})
    if weight.shape != bits.shape:
        message = f"it has shape {list(weight.shape)}, the source {list(bits.shape)}"
        return [Finding("mismatched", message, tensor=f"{module}.weight")], counts
    wanted = fp8.wanted_scale(bits, scale)
    findings = [compare(f"{module}.weight_scale", scale.raw(), wanted)]
    findings.append(compare(f"{module}.weight", weight.raw(), fp8.codes(bits, wanted, scale.dtype)))
    return [finding for finding in findings if finding is not None], counts
