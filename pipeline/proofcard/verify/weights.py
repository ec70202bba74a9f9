"""Level `weights`: every packed byte and scale follows from the source weights.

Each quantized linear is quantized again with `proofcard.nvfp4` and compared byte by byte; every other tensor
must have the source's bits, FP8 ones those of their dequantization to BF16, or to float32 where the manifest
or the tensors say so. Scales that calibration decides
(input_scale, k_scale, v_scale and their biases) do not follow from the source, and are counted only.
Memory holds a few linears at a time, one per thread.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.ties import Ties, of_source
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, one_line
from proofcard.progress import Bar
from proofcard.verify import diagnose, quantconfig
from proofcard.verify.inventory import SCALES, Inventory, against_source, fused_groups, natural
from proofcard.verify.recompute import (
    dequantized_to_float32,
    follows,
    group_scale_2,
    plain,
    quantize,
    remembering,
)
from proofcard.verify.report import Finding, Level
from proofcard.verify.shards import read_tensors
from proofcard.verify.structure import not_understood

_DIAGNOSED = 8  # differing modules whose cause is looked for: it takes far longer than to compare them
_SLICE = 1 << 22  # values compared at a time where the dtypes differ
_FLOATS = ("BF16", "F16", "F32", "F64")
_MIB = 1 << 20


@dataclass
class Outcome:
    """Of one unit of work: `modules` is a fused group, or one unquantized tensor's name."""

    modules: tuple[str, ...]
    quantized: bool
    findings: list[tuple[str, Finding]] = field(default_factory=list)  # with the module that it is of
    unchecked: str | None = None
    other_scales: bool = False  # every code follows from the source and the scales as they are stored
    counts: Counter[str] = field(default_factory=Counter)
    source_bytes: int = 0


def check(folder: Path, source: Source, threads: int, sealed: Manifest | None) -> Level:
    """Recompute `folder` from `source`. `sealed`, its manifest, helps to recognise a wrong source."""
    level = Level("weights")
    tensors, broken = read_tensors(folder)
    level.add(*broken)
    if not tensors:
        level.unchecked += [] if broken else ["there is no .safetensors file in it"]
        return level
    inventory = Inventory(tensors)
    said = quantconfig.read(folder)
    silent = said.algorithm is None and said.method is None  # the tensors still speak for themselves
    if not_known := list(not_understood(said, inventory, source, tensors_alone=silent)):
        level.unchecked += not_known
        return level
    bound = of_source(source)
    level.group(against_source(inventory, source.weights(), bound))
    float32 = dequantized_to_float32(source, tensors, sealed)
    quantized = set(inventory.quantized)
    unpacked = inventory.model - {f"{module}.weight" for module in quantized}
    units: list[tuple[tuple[str, ...], bool]] = [(group, True) for group in _groups(source, quantized)]
    units += [((name,), False) for name in unpacked if _origin(source, name, bound) is not None]
    units.sort(key=lambda unit: natural(unit[0][0]))

    def compare(unit: tuple[tuple[str, ...], bool]) -> Outcome:
        modules, packed = unit
        try:
            if packed:
                return _compare_group(source, modules, quantized, tensors, float32)
            return _compare_plain(source, modules[0], tensors, float32, bound)
        except (Stop, ValueError, OSError) as error:
            where = one_line(error, checkpoint=folder, source=source.path)
            return Outcome(
                modules, packed, unchecked=f"{modules[0]}: {where}", source_bytes=_size(source, modules)
            )

    differing: list[Outcome] = []
    total = sum(_size(source, modules) for modules, _ in units)
    with Bar("weights", -(-total // _MIB), "MiB") as bar:
        done = 0
        pool = ThreadPoolExecutor(threads)
        try:
            for outcome in pool.map(compare, units):
                level.counts.update(outcome.counts)
                level.unchecked += [outcome.unchecked] if outcome.unchecked else []
                differing += [outcome] if outcome.findings else []
                done += outcome.source_bytes
                if (step := -(-done // _MIB) - bar.done) > 0:
                    bar.advance(step)
        finally:
            pool.shutdown(cancel_futures=True)
    for number, outcome in enumerate(differing[:_DIAGNOSED]):
        outcome.findings = _explained(source, outcome, tensors, sealed, float32, bound)
        differing[number] = outcome
    if other := _another_algorithm(differing, level.counts["quantized linears"]):
        level.unchecked.append(other)
        differing = [outcome for outcome in differing if not outcome.quantized]
    for outcome in differing:
        level.add(*(finding for _, finding in outcome.findings))
    if float32:
        level.notes.append("FP8 weights were dequantized to float32: block scales follow from that")
    if bound.contradicted:
        level.notes.append("the source says that both embeddings are one, and stores two that differ")
    if calibrated := sum(name.endswith(".input_scale") for name in tensors) + len(inventory.cache):
        level.notes.append(f"{calibrated} scales come from calibration, not from the source")
    if widened := level.counts.pop("of another dtype", 0):
        level.notes.append(f"{widened} tensors are of another dtype than expected, equal in value")
    return level


def _another_algorithm(differing: list[Outcome], quantized: int) -> str | None:
    """Whether block scales were chosen in another way all over, and the codes are right for them."""
    packed = [outcome for outcome in differing if outcome.quantized]
    linears = len({module for outcome in packed for module, _ in outcome.findings})
    known = {finding.cause for outcome in packed for _, finding in outcome.findings} - {
        None,
        diagnose.OTHER_SOURCE,
    }
    if known or 2 * linears < quantized or not all(outcome.other_scales for outcome in packed):
        return None
    return (
        f"{linears} of {quantized} quantized linears have other block scales than max calibration gives, and "
        "every code of them follows from the source and these scales: another algorithm (MSE, 4/6 or the "
        "like) chose them, which this version does not recompute"
    )


def _groups(source: Source, quantized: set[str]) -> Iterator[tuple[str, ...]]:
    """Fused groups with a quantized member. A member that is not quantized still has its say in the amax."""
    linears = (n.removesuffix(".weight") for n in source.weights() if n.endswith(".weight"))
    for group in fused_groups(linears):
        if quantized.intersection(group):
            yield group


def _size(source: Source, modules: tuple[str, ...]) -> int:
    names = [name for module in modules for name in (module, f"{module}.weight")]
    return sum(source.tensors[name].size for name in names if name in source.tensors)


# --- quantized linears ------------------------------------------------------------------------------


def _compare_group(
    source: Source, modules: tuple[str, ...], quantized: set[str], tensors: dict[str, Tensor], float32: bool
) -> Outcome:
    outcome = Outcome(modules, True, source_bytes=_size(source, modules))
    read = remembering()
    scale_2 = group_scale_2(source, modules, read)
    for module in modules:
        if module not in quantized:
            continue  # it is compared as a plain tensor
        stored = {leaf: tensors.get(f"{module}.{leaf}") for leaf in ("weight", *SCALES)}
        outcome.counts["quantized linears"] += 1
        for leaf, wanted in quantize(source, module, scale_2, float32, read).items():
            name, tensor = f"{module}.{leaf}", stored[leaf]
            if tensor is None:
                if leaf != "weight":  # a missing weight is named by the inventory
                    finding = Finding("missing", "a quantized linear has it", tensor=name)
                    outcome.findings.append((module, finding))
                continue
            outcome.counts.update(tensors=1, bytes=tensor.size)
            dtype = "U8" if leaf == "weight" else SCALES[leaf]
            found = tensor.raw()
            if tensor.dtype != dtype or found.size != wanted.nbytes or not _same_shape(tensor, wanted):
                message = f"it is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(wanted.shape)}"
                outcome.findings.append((module, Finding("mismatched", message, tensor=name)))
            elif (difference := _compare_bytes(name, found, wanted)) is not None:
                outcome.findings.append((module, difference))
    changed = {module for module, _ in outcome.findings}
    outcome.other_scales = all(follows(source, module, tensors) for module in changed)
    return outcome


def _same_shape(tensor: Tensor, wanted: np.ndarray) -> bool:
    return tensor.shape == wanted.shape or (wanted.shape == () and tensor.shape == (1,))


# --- every other tensor -----------------------------------------------------------------------------


def _compare_plain(
    source: Source, name: str, tensors: dict[str, Tensor], float32: bool, bound: Ties
) -> Outcome:
    outcome = Outcome((name,), False, source_bytes=_size(source, (name,)))
    origin = _origin(source, name, bound)
    if origin is None:
        return outcome  # the inventory has named it as extra
    tensor = tensors[name]
    outcome.counts.update(tensors=1, bytes=tensor.size)
    if not source.is_fp8(origin) and _same_bytes(tensor, source.stored(origin)):
        return outcome
    wanted, dtype = plain(source, origin, float32, tensor.dtype)
    if tensor.shape != wanted.shape:
        message = f"it has shape {list(tensor.shape)}, the source {list(wanted.shape)}"
        outcome.findings.append((name, Finding("mismatched", message, tensor=name)))
    elif tensor.dtype == dtype:
        found = _compare_bytes(name, tensor.raw(), wanted)
        outcome.findings += [(name, found)] if found else []
    elif tensor.dtype in _FLOATS and dtype in _FLOATS:
        outcome.counts["of another dtype"] += 1
        found = _compare_values(tensor, wanted, dtype)
        outcome.findings += [(name, found)] if found else []
    else:
        message = f"it is {tensor.dtype}; from the source follows {dtype}"
        outcome.findings.append((name, Finding("mismatched", message, tensor=name)))
    return outcome


def _same_bytes(tensor: Tensor, origin: Tensor) -> bool:
    """Whether two tensors are alike to the last byte, a piece of each in memory at a time."""
    if (tensor.dtype, tensor.shape) != (origin.dtype, origin.shape):
        return False
    return all(
        np.array_equal(one, other) for one, other in zip(tensor.pieces(), origin.pieces(), strict=True)
    )


def _origin(source: Source, name: str, bound: Ties) -> str | None:
    """The source's tensor that this one should equal: of its name, or tied to it."""
    return name if name in source.tensors else bound.partner(name, source.weights())


def _compare_values(tensor: Tensor, wanted: np.ndarray, dtype: str) -> Finding | None:
    """By value, for dtypes that differ: the source's, and what is stored."""
    have, want = tensor.bits().reshape(-1), wanted.reshape(-1)
    count, first = 0, -1
    for start in range(0, have.size, _SLICE):
        left = _widened(have[start : start + _SLICE], tensor.dtype)
        right = _widened(want[start : start + _SLICE], dtype)
        unequal = np.flatnonzero((left != right) & ~(np.isnan(left) & np.isnan(right)))
        first = start + int(unequal[0]) if unequal.size and first < 0 else first
        count += unequal.size
    if not count:
        return None
    found, expected = (
        float(_widened(bits[first : first + 1], kind)[0])
        for bits, kind in ((have, tensor.dtype), (want, dtype))
    )
    message = f"value {first} ({tensor.dtype}) is {found!r}, from the source follows {expected!r} ({dtype}); "
    return Finding(
        "mismatched",
        f"{message}{count} of {have.size} values differ",
        tensor=tensor.name,
        offset=first * have.dtype.itemsize,
        expected=repr(expected),
        found=repr(found),
    )


def _widened(bits: np.ndarray, dtype: str) -> np.ndarray:
    return (nvfp4.bf16_to_f32(bits) if dtype == "BF16" else bits).astype(np.float64)


# --- bytes ------------------------------------------------------------------------------------------


def _compare_bytes(name: str, found: np.ndarray, wanted: np.ndarray) -> Finding | None:
    """The first byte that differs, both its values, and how many differ."""
    expected = np.ascontiguousarray(wanted).reshape(-1).view(np.uint8)
    if np.array_equal(found, expected):
        return None
    different = found != expected
    at, count = int(np.argmax(different)), int(different.sum())
    have, want = f"0x{found[at]:02x}", f"0x{expected[at]:02x}"
    values = ""
    if found.size == 4 and wanted.dtype == np.float32:
        pair = [np.frombuffer(raw.tobytes(), "<f4")[0] for raw in (found, expected)]
        values = f" (as a number {pair[0]}, not {pair[1]})"
    message = (
        f"byte {at} is {have}, from the source follows {want}{values}; {count} of {found.size} bytes differ"
    )
    return Finding(
        "mismatched", message, tensor=name, offset=at, expected=want, found=have, differing_bytes=count
    )


def _explained(
    source: Source,
    outcome: Outcome,
    tensors: dict[str, Tensor],
    sealed: Manifest | None,
    float32: bool,
    bound: Ties,
) -> list[tuple[str, Finding]]:
    """The same findings with their likeliest cause, looked for once a module."""

    def cause(module: str) -> str | None:
        try:
            if outcome.quantized:
                return diagnose.linear(source, outcome.modules, module, tensors, sealed, float32)
            origin = _origin(source, module, bound) or module
            return diagnose.plain(source, origin, tensors[module], sealed, float32)
        except (Stop, ValueError, OSError):  # a difference stands, whether or not its cause can be looked for
            return None

    causes = {module: cause(module) for module in {module for module, _ in outcome.findings}}
    return [(module, replace(finding, cause=causes[module])) for module, finding in outcome.findings]
