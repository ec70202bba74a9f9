"""Whether the bytes of one linear follow from its source weight: by which rule, or from the scales as given.

A few rows are in memory at a time besides the weight itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from proofcard.checkpoint.dialects.layouts import Layout
from proofcard.checkpoint.dialects.rules import (
    FACTORS,
    FOUR_OVER_SIX,
    Rule,
    Step,
    by_256,
    of_layout,
    steps_of,
    widths,
)
from proofcard.nvfp4 import e4m3_to_f32

Array = np.ndarray[Any, Any]
F32 = np.float32

_WINDOW = 1 << 22  # weights at a time
_TIE = 1e-5  # of two candidates' squared errors: their sums may have been rounded differently
_NAN = 0x7F


@dataclass(frozen=True)
class Stored:
    """The tensors of one linear: codes uint8 [rows, cols/2], E4M3 scales uint8 [rows, blocks], float32."""

    codes: Array
    scales: Array
    shared: F32
    layout: Layout
    block: int


@dataclass
class Difference:
    """Of one tensor: how many of its bytes differ, and the first of them."""

    count: int = 0
    offset: int = -1
    found: int = 0
    expected: int = 0

    def add(self, found: Array, expected: Array, before: int) -> None:
        """Compare a piece that begins `before` bytes into the tensor."""
        different = found != expected
        count = int(np.count_nonzero(different))
        if count and self.offset < 0:
            at = int(np.argmax(different.reshape(-1)))
            self.offset = before + at
            self.found, self.expected = int(found.reshape(-1)[at]), int(expected.reshape(-1)[at])
        self.count += count


@dataclass
class Attempt:
    """One rule's result compared with the stored bytes. `ties`: blocks where two scales are equally good."""

    rule: Rule
    amax: F32
    wanted: F32  # the second-level scale that follows
    same_shared: bool
    using: F32  # the scale that the rest is compared with: that one, or the stored one
    scales: Difference = field(default_factory=Difference)
    codes: Difference = field(default_factory=Difference)
    ties: int = 0

    @property
    def fits(self) -> bool:
        """Whether every byte is as this rule gives it."""
        return self.same_shared and not self.scales.count and not self.codes.count

    def wrong(self) -> int:
        """How many bytes are not."""
        return 4 * (not self.same_shared) + self.scales.count + self.codes.count


@dataclass
class Given:
    """How the codes follow from the scales as they are stored, by one step."""

    step: Step
    codes: Difference = field(default_factory=Difference)


@dataclass
class Verdict:
    """Of one linear.

    `nearest` is the rule with the fewest wrong bytes, `given` None where no code was off.
    """

    attempts: list[Attempt]
    given: list[Given]
    blocks: int
    ratios: list[Array]  # stored block scale / that of the plainest rule, where they differ

    @property
    def fitting(self) -> list[Rule]:
        """The rules by which every byte follows."""
        return [attempt.rule for attempt in self.attempts if attempt.fits]

    @property
    def nearest(self) -> Attempt:
        """The attempt with the fewest wrong bytes."""
        return min(self.attempts, key=Attempt.wrong)

    @property
    def follows_given(self) -> bool:
        """Whether every code is the right one for the stored scales."""
        return any(not given.codes.count for given in self.given)

    @property
    def off(self) -> int:
        """Bytes of codes that are not the nearest to the weight under the stored scales."""
        return min(given.codes.count for given in self.given)


def verdict(bits: Array, amaxes: list[F32], stored: Stored, partner: Array | None = None) -> Verdict:
    """Hold a BF16 weight, uint16 [rows, cols], to what is stored of it.

    `amaxes`: the largest |W| that may decide the second-level scale, the likeliest first. `partner`: the
    weight of the other of an expert's gate and up, of the same shape.

    Raises:
        ValueError: when the shapes are not those of one weight.
    """
    rows, columns = bits.shape
    if stored.codes.shape != (rows, columns // 2) or columns % stored.block:
        raise ValueError(f"codes {stored.codes.shape} are not of a weight {bits.shape}")
    rules = [rule for rule in of_layout(stored.layout) if partner is not None or not rule.paired]
    attempts = [_attempt(rule, amax, stored.shared) for amax in amaxes for rule in rules]
    if any(attempt.same_shared for attempt in attempts):
        attempts = [attempt for attempt in attempts if attempt.same_shared]
    else:
        attempts = attempts[: len(rules)]
        attempts += [
            replace(attempt, using=stored.shared, scales=Difference(), codes=Difference())
            for attempt in attempts
        ]
    given = [Given(step) for step in steps_of(stored.layout)]
    result = Verdict(attempts, given, stored.scales.size, [])
    for window in _windows(rows, columns):
        _judge(bits, stored, window, result, partner)
    return result


def relative_error(bits: Array, stored: Stored) -> tuple[float, float]:
    """Σ (W − stored)² / Σ W², over the whole linear and of the worst block.

    A block of zeros counts 0 or 1.
    """
    total, energy, worst = 0.0, 0.0, 0.0
    for window in _windows(*bits.shape):
        error, size = block_errors(bits[window], stored, window)
        total, energy = total + float(error.sum()), energy + float(size.sum())
        share = np.where(size > 0, error / np.maximum(size, 1e-300), (error > 0).astype(float))
        worst = max(worst, float(share.max(initial=0.0)))
    return (total / energy if energy else float(total > 0)), worst


def block_errors(bits: Array, stored: Stored, window: slice) -> tuple[Array, Array]:
    """Squared error and squared size of each block of these rows, float64 [rows, blocks]."""
    from proofcard.checkpoint.dialects import loops
    from proofcard.nvfp4 import bf16_to_f32

    width = widths(stored.scales[window], stored.shared, stored.layout)
    with np.errstate(all="ignore"):
        have = loops.unpack(stored.codes[window], width, stored.block).astype(np.float64)
    want = bf16_to_f32(bits).astype(np.float64)
    shape = (len(bits), -1, stored.block)
    squared = np.nan_to_num((have - want) ** 2, nan=np.inf).reshape(shape)
    return squared.sum(axis=2), (want**2).reshape(shape).sum(axis=2)


def _attempt(rule: Rule, amax: F32, shared: F32) -> Attempt:
    with np.errstate(all="ignore"):
        wanted = rule.shared(amax)
    return Attempt(rule, amax, wanted, same_bits(wanted, shared), wanted)


def same_bits(one: F32, other: F32) -> bool:
    """Whether two float32 are equal bit for bit: NaN equals itself, -0 does not equal 0."""
    return one.tobytes() == other.tobytes()


def _windows(rows: int, columns: int) -> Iterator[slice]:
    height = max(1, _WINDOW // max(1, columns))
    for first in range(0, rows, height):
        yield slice(first, first + height)


def _judge(whole: Array, stored: Stored, window: slice, result: Verdict, partner: Array | None) -> None:
    from proofcard.checkpoint.dialects import loops

    bits = whole[window]
    codes, scales, block = stored.codes[window], stored.scales[window], stored.block
    own = loops.amaxes(bits, block)
    packed: dict[tuple[bytes, Step, bytes], Array] = {}

    def pack(step: Step, chosen: Array, shared: F32) -> Array:
        key = (chosen.tobytes(), step, shared.tobytes())
        if key not in packed:
            with np.errstate(all="ignore"):
                steps = np.asarray(step.of(e4m3_to_f32(chosen), shared), F32)
            packed[key] = loops.pack(bits, steps, block, multiply=step.multiply, signed_zero=step.signed_zero)
        return packed[key]

    for number, attempt in enumerate(result.attempts):
        with np.errstate(all="ignore"):
            if attempt.rule.paired and partner is not None:
                chosen, ties = paired(bits, partner[window], attempt.amax, block, scales)
            else:
                candidates = attempt.rule.scales(own, attempt.using, attempt.amax)
                chosen, ties = smaller_error(
                    bits, candidates, attempt.rule.step, attempt.using, block, scales
                )
        attempt.ties += ties
        attempt.scales.add(scales, chosen, window.start * scales.shape[1])
        attempt.codes.add(
            codes, pack(attempt.rule.step, chosen, attempt.using), window.start * codes.shape[1]
        )
        if not number and not np.array_equal(scales, chosen):
            result.ratios.append(_ratios(scales, chosen))
    for given in result.given:
        given.codes.add(codes, pack(given.step, scales, stored.shared), window.start * codes.shape[1])


def _ratios(stored: Array, wanted: Array) -> Array:
    differ = stored != wanted
    with np.errstate(all="ignore"):
        ratios = e4m3_to_f32(stored[differ]) / e4m3_to_f32(wanted[differ])
    return np.asarray(ratios[np.isfinite(ratios)], F32)


def smaller_error(
    bits: Array, candidates: tuple[Array, ...], step: Step, shared: F32, block: int, stored: Array
) -> tuple[Array, int]:
    """The candidate with the smaller squared error in each block, and the number of undecidable blocks.

    There it is what is stored.
    """
    if len(candidates) == 1:
        return candidates[0], 0
    errors = [_errors(bits, candidate, step, shared, block) for candidate in candidates]
    chosen, best = candidates[0].copy(), errors[0].copy()
    for candidate, error in zip(candidates[1:], errors[1:], strict=True):
        better = error < best
        chosen[better], best[better] = candidate[better], error[better]
    ties = np.zeros(chosen.shape, bool)
    for candidate, error in zip(candidates, errors, strict=True):
        ties |= (candidate == stored) & (candidate != chosen) & (error <= best * (1 + _TIE))
    chosen[ties] = stored[ties]
    return chosen, int(ties.sum())


def paired(bits: Array, partner: Array, amax: F32, block: int, stored: Array) -> tuple[Array, int]:
    """Four over six of an expert's gate and up.

    Each chooses by itself, and the larger block counts for both.
    """
    from proofcard.checkpoint.dialects import loops

    shared = FOUR_OVER_SIX.shared(amax)
    chosen: list[list[Array]] = []  # what a block may count, of either, each way that a tie may go
    for weight in (bits, partner):
        blocks = loops.amaxes(weight, block)
        scales = FOUR_OVER_SIX.scales(blocks, shared, amax)
        six, four = (_errors(weight, scale, FOUR_OVER_SIX.step, shared, block) for scale in scales)
        likely = np.where(four < six, FACTORS[1], FACTORS[0])
        tied = np.abs(four - six) <= _TIE * np.minimum(four, six)
        other = np.where(tied, FACTORS[0] + FACTORS[1] - likely, likely)
        chosen.append([blocks * likely, blocks * other])
    ways = [by_256(np.maximum(one, other), amax) for one in chosen[0] for other in chosen[1]]
    result = ways[0].copy()
    ties = np.zeros(result.shape, bool)
    for way in ways[1:]:
        ties |= (way == stored) & (way != ways[0])
    result[ties] = stored[ties]
    return result, int(ties.sum())


def _errors(bits: Array, scales: Array, step: Step, shared: F32, block: int) -> Array:
    from proofcard.checkpoint.dialects import loops

    steps = np.asarray(step.of(e4m3_to_f32(scales), shared), F32)
    packed = loops.pack(bits, steps, block, multiply=step.multiply, signed_zero=step.signed_zero)
    return loops.errors(bits, packed, steps, block)
