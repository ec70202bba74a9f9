"""Level `weights`: every packed byte and scale follows from the source weights.

Each quantized linear is quantized again by the rules of its dialect and compared byte by byte (`packed`);
every other tensor must have the source's bits, FP8 ones those of their dequantization to BF16, or to float32
where the manifest or the tensors say so. Scales that calibration decides (input_scale, k_scale, v_scale and
their biases) do not follow from the source, and are counted only. Memory holds a few linears at a time, one
per thread.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint import floats
from proofcard.checkpoint.dialects.declarations import COMPRESSED, MODELOPT
from proofcard.checkpoint.dialects.view import viewed
from proofcard.checkpoint.reading import give_up
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.ties import Ties, of_source
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, one_line
from proofcard.progress import Bar
from proofcard.verify import diagnose, quantconfig
from proofcard.verify.file_digests import FileDigests
from proofcard.verify.folded import in_norm
from proofcard.verify.inventory import Inventory, against_source, fused_groups, natural
from proofcard.verify.linear_outcomes import verdicts
from proofcard.verify.packed import Judged, compare_fp8, compare_group
from proofcard.verify.quantconfig import other_layout
from proofcard.verify.recompute import dequantized_to_float32, plain
from proofcard.verify.report import Finding, Level
from proofcard.verify.scheme_parsers import SMOOTHED
from proofcard.verify.steps import LOCAL, Passing
from proofcard.verify.strips import is_dequantized, same_bytes
from proofcard.verify.structure import not_understood
from proofcard.verify.weight_files import read_tensors
from proofcard.verify.weight_steps import Outcome, Sound, Unit, in_file_order, origin_of, reads_of

_DIAGNOSED = 8  # differing modules whose cause is looked for: it takes far longer than to compare them
_SLICE = 1 << 22  # values compared at a time where the dtypes differ
_FLOATS = ("BF16", "F16", "F32", "F64")
_MB = 10**6


def check(
    folder: Path,
    source: Source,
    threads: int,
    sealed: Manifest | None,
    given: bool = False,
    passing: Passing = LOCAL,
    digests: FileDigests | None = None,
) -> Level:
    """Recompute `folder` from `source`; `digests` hashes the files of `folder` behind the comparison.

    `sealed`, its manifest, helps to recognise a wrong source. `given`: block scales that a search chose are
    taken as they are stored, and the codes held to them.
    """
    level = Level("weights")
    tensors, broken = read_tensors(folder)
    level.add(*broken)
    level.homes = {name: tensor.path.name for name, tensor in tensors.items()}
    if not tensors:
        level.unchecked += [] if broken else ["there is no .safetensors file in it"]
        return level
    declared = quantconfig.read(folder)
    silent = declared.algorithm is None and declared.method is None  # the tensors still speak for themselves
    view, cut = viewed(tensors, source, silent or declared.method in COMPRESSED)
    source, tensors = cut or source, view.tensors
    inventory = Inventory(tensors, eight=silent or declared.schemes is not None)
    smoothed = declared.algorithm == SMOOTHED and declared.method in MODELOPT
    if not_known := list(not_understood(declared, inventory, source, tensors_alone=silent or smoothed)):
        level.unchecked += not_known
        return level
    level.unchecked += [other_layout(declared) or ""] if smoothed else []
    bound = of_source(source)
    level.group(against_source(inventory, source.weights(), bound))
    float32 = dequantized_to_float32(source, tensors, sealed)
    quantized, eight = set(inventory.quantized), set(inventory.fp8)
    unpacked = inventory.model - {f"{module}.weight" for module in quantized | eight}
    units: list[Unit] = [(group, True) for group in _groups(source, quantized)]
    units += [((name,), False) for name in unpacked if origin_of(source, name, bound) is not None]
    units += [((module,), True) for module in inventory.fp8 if f"{module}.weight" in source.tensors]
    reads = reads_of(source, tensors, bound)
    units.sort(key=lambda unit: in_file_order(unit, tensors))
    steps = passing.steps("weights", units, reads, lambda unit: f"{unit[0][0]} {unit[1]}", Sound())

    def compare(unit: Unit) -> Outcome:
        modules, packed = unit

        def work() -> Outcome:
            if modules[0] in eight and len(modules) == 1:
                found, counts = compare_fp8(source, modules[0], tensors, _compare_bytes)
                pairs = [(modules[0], each) for each in found]
                return Outcome(modules, False, pairs, counts=counts, source_bytes=_size(source, modules))
            if packed:
                group = compare_group(source, modules, quantized, view, float32)
                return Outcome(
                    modules, True, group.findings, judged=group.judged, counts=group.counts,
                    source_bytes=_size(source, modules),
                )  # fmt: skip
            return _compare_plain(source, modules[0], tensors, float32, bound)

        try:
            outcome = steps.run(unit, work)
            if digests is not None:
                digests.follow(reads(unit))
            return outcome
        except (Stop, ValueError, OSError) as error:
            where = one_line(error, checkpoint=folder, source=source.path)
            return Outcome(
                modules, packed, unchecked=f"{modules[0]}: {where}", source_bytes=_size(source, modules)
            )

    outcomes: list[Outcome] = []
    total = sum(_size(source, modules) for modules, _ in units)
    with Bar("weights", -(-total // _MB), "MB") as bar:
        done = 0
        pool = ThreadPoolExecutor(threads)
        try:
            for outcome in pool.map(compare, steps.ordered):
                level.counts.update(outcome.counts)
                level.unchecked += [outcome.unchecked] if outcome.unchecked else []
                outcomes += [outcome] if outcome.findings or outcome.judged else []
                done += outcome.source_bytes
                if (step := -(-done // _MB) - bar.done) > 0:
                    bar.advance(step)
        except KeyboardInterrupt:
            give_up()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    outcomes.sort(key=lambda outcome: natural(outcome.modules[0]))
    level.unchecked.sort(key=natural)
    found = verdicts(each for outcome in outcomes for each in outcome.judged)
    damaged = {each.module: each.findings for each in found.damaged}
    for outcome in outcomes:
        for module in (each.module for each in outcome.judged if each.module in damaged):
            outcome.findings += [(module, finding) for finding in damaged[module]]
    differing = [outcome for outcome in outcomes if outcome.findings]
    behind = found.folded + found.rounded if found.folded or smoothed else []
    norms = _holding_factors(source, behind, differing, tensors)
    differing = [outcome for outcome in differing if outcome.modules[0] not in norms]
    if norms:
        level.notes.append(f"{len(norms)} norms hold the factors of linears behind them")
    for number, outcome in enumerate(differing):
        if number < _DIAGNOSED:
            outcome.findings = _explained(source, outcome, tensors, sealed, float32, bound)
        level.add(*(finding for _, finding in outcome.findings))
    level.unchecked += found.why_not(given)
    level.notes += view.mappings + list(found.notes(given))
    level.scales, level.made_by = found.document(), found.rules()
    level.given = given and bool(found.searched)
    if float32:
        level.notes.append("FP8 weights were dequantized to float32: block scales follow from that")
    if bound.contradicted:
        level.notes.append("the source says that both embeddings are one, and stores two that differ")
    if calibrated := sum(name.endswith(".input_scale") for name in tensors) + len(inventory.cache):
        level.notes.append(f"{calibrated} scales come from calibration, not from the source")
        level.calibrated = calibrated
    if widened := level.counts.pop("of another dtype", 0):
        level.notes.append(f"{widened} tensors are of another dtype than expected, equal in value")
    level.findings = [replace(each, tensor=view.stored_as(each.tensor)) for each in level.findings]
    return level


def _holding_factors(
    source: Source, folded: list[Judged], differing: list[Outcome], tensors: dict[str, Tensor]
) -> set[str]:
    """Norms that differ from the source's by the factors that a linear of their layer has lost."""
    norms = set()
    for name in (outcome.modules[0] for outcome in differing if not outcome.quantized):
        if name not in source.tensors or len(source.tensors[name].shape) != 1:
            continue
        own = floats.converted(source.bits(name), source.dtype(name), "F32").astype(np.float32)
        layer = name.split(".layers.")[-1].partition(".")[0]
        near = (each for each in folded if f".layers.{layer}." in each.module and each.factors is not None)
        if any(in_norm(tensors[name], own, each.factors) for each in near if each.factors is not None):
            norms.add(name)
    return norms


def _groups(source: Source, quantized: set[str]) -> Iterator[tuple[str, ...]]:
    """Fused groups with a quantized member. A member that is not quantized still has its say in the amax."""
    linears = (n.removesuffix(".weight") for n in source.weights() if n.endswith(".weight"))
    for group in fused_groups(linears):
        if quantized.intersection(group):
            yield group


def _size(source: Source, modules: tuple[str, ...]) -> int:
    names = [name for module in modules for name in (module, f"{module}.weight")]
    return sum(source.tensors[name].size for name in names if name in source.tensors)


# --- every other tensor -----------------------------------------------------------------------------


def _compare_plain(
    source: Source, name: str, tensors: dict[str, Tensor], float32: bool, bound: Ties
) -> Outcome:
    outcome = Outcome((name,), False, source_bytes=_size(source, (name,)))
    origin = origin_of(source, name, bound)
    if origin is None:
        return outcome  # the inventory has named it as extra
    tensor = tensors[name]
    outcome.counts.update(tensors=1, bytes=tensor.size)
    if source.is_fp8(origin):
        if not float32 and is_dequantized(source, origin, tensor):
            return outcome
    elif same_bytes(tensor, source.stored(origin)):
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
    by_max = {each.module for each in outcome.judged if each.by_max} | {
        module for module, _ in outcome.findings
    }
    by_max -= {each.module for each in outcome.judged if not each.by_max}

    def cause(module: str) -> str | None:
        try:
            if outcome.quantized:
                if module not in by_max:
                    return None
                return diagnose.linear(source, outcome.modules, module, tensors, sealed, float32)
            origin = origin_of(source, module, bound) or module
            if module not in tensors:
                return None  # a linear in FP8, which has two
            return diagnose.plain(source, origin, tensors[module], sealed, float32)
        except (Stop, ValueError, OSError):  # a difference stands, whether or not its cause can be looked for
            return None

    causes = {module: cause(module) for module in {module for module, _ in outcome.findings}}
    return [
        (module, replace(finding, cause=causes[module] or finding.cause))
        for module, finding in outcome.findings
    ]
