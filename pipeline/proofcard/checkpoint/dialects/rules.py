"""The makers' formulas for NVFP4 bytes, as data and pure functions of arrays.

In all of them A is the largest |W| of the linears that share a second-level scale, m that of a block, in
float32, and every operation is one IEEE float32 operation unless a BF16 rounding is written. `e4m3` rounds to
nearest even and saturates. Each formula was read in its maker's release and checked against bytes that this
release wrote (docs/dialects.md, tests/checkpoint/dialects/golden).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofcard.checkpoint.dialects.layouts import COMPRESSED, MODELOPT, Layout
from proofcard.nvfp4 import bf16_to_f32, e4m3_to_f32, f32_to_bf16

F32 = np.float32
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Step:
    """How codes follow from scales: y = W / step, or W · step with `multiply`."""

    name: str
    of: Callable[[Array, F32], Array]  # block scales in float32 and the second-level scale, to the steps
    width: Callable[[Array, F32], Array]  # the same, to what one unit of a code is worth
    multiply: bool
    signed_zero: bool  # whether a negative that rounds to zero keeps its sign, 0x8


@dataclass(frozen=True)
class Rule:
    """One formula.

    `scales` gives E4M3 codes of block scales, more than one where the smaller error decides.
    """

    name: str
    made_by: str
    layout: Layout
    shared: Callable[[F32], F32]  # A to the second-level scale
    scales: Callable[[Array, F32, F32], tuple[Array, ...]]  # m [rows, blocks], the second-level scale, A
    step: Step
    paired: bool = False  # whether gate and up of an expert share their block scales: the larger of both


def _reciprocal(value: Array | F32) -> Any:
    """1 / value, and 0 for 0."""
    with np.errstate(divide="ignore"):
        return np.where(value == 0, F32(0), F32(1) / value).astype(F32)


def _bf16(values: Any) -> Any:
    return bf16_to_f32(f32_to_bf16(np.asarray(values, F32)))


def _e4m3(values: Array) -> Array:
    from proofcard.checkpoint.dialects.loops import e4m3

    return e4m3(values)


# --- ModelOpt -----------------------------------------------------------------------------------

MODELOPT_STEP = Step(
    "W / (scale · weight_scale_2)",
    of=lambda scale, shared: scale * shared,
    width=lambda scale, shared: scale * shared,
    multiply=False,
    signed_zero=True,
)
_LEAST = F32(2.0**-9)  # the smallest E4M3 number above zero


def _by_six(amaxes: Array, scale_2: F32) -> Array:
    wanted = amaxes / F32(F32(6) * scale_2)
    wanted[wanted == 0] = 1
    return wanted


def _underflowing(amaxes: Array, scale_2: F32, _: F32) -> tuple[Array, ...]:
    return (_e4m3(_by_six(amaxes, scale_2)),)


def _clamped(amaxes: Array, scale_2: F32, _: F32) -> tuple[Array, ...]:
    return (_e4m3(np.maximum(_by_six(amaxes, scale_2), _LEAST)),)


FACTORS = (F32(1), F32(1.5))
"""What four over six multiplies a block's amax with, for a largest code of 6 and of 4."""


def by_256(amaxes: Array, amax: F32) -> Array:
    """Block scales of four over six for amaxes that are multiplied already."""
    block = amaxes / F32(6)
    block[block == 0] = 1
    return _e4m3(np.maximum((block * F32(256)) / F32(amax / F32(6)), _LEAST))


def _four_or_six(amaxes: Array, _: F32, amax: F32) -> tuple[Array, ...]:
    return tuple(by_256(amaxes * factor, amax) for factor in FACTORS)


MAX = Rule("max", "ModelOpt up to 0.44", MODELOPT, lambda a: F32(a / F32(2688)), _underflowing, MODELOPT_STEP)
MAX_CLAMPED = Rule(
    "max, block scales of 2⁻⁹ at least", "ModelOpt 0.45 and later", MODELOPT,
    lambda a: F32(a / F32(2688)), _clamped, MODELOPT_STEP,
)  # fmt: skip
FOUR_OVER_SIX = Rule(
    "four over six", "ModelOpt 0.46 and later", MODELOPT,
    lambda a: F32(a / F32(1536)), _four_or_six, MODELOPT_STEP,
)  # fmt: skip
FOUR_OVER_SIX_PAIRED = Rule(
    "four over six, an expert's gate and up together", "ModelOpt 0.46 and later", MODELOPT,
    lambda a: F32(a / F32(1536)), _four_or_six, MODELOPT_STEP, paired=True,
)  # fmt: skip
W4A8 = Rule(
    "max for FP8 inputs", "ModelOpt, W4A8_NVFP4_FP8", MODELOPT,
    lambda a: F32(a / F32(448)), _clamped, MODELOPT_STEP,
)  # fmt: skip

# --- llm-compressor -------------------------------------------------------------------------------

COMPRESSED_STEP = Step(
    "W / (scale / global_scale)",
    of=lambda scale, shared: scale / shared,
    width=lambda scale, shared: scale / shared,
    multiply=False,
    signed_zero=True,
)
_EPSILON = 0x20  # E4M3 of 0.125, its machine epsilon: what compressed-tensors writes instead of zero


def _llm_compressor_global(amax: F32) -> F32:
    """2688 / A as torch has it for BF16: a reciprocal and a product, each rounded to BF16."""
    return F32(_bf16(F32(2688) * _bf16(F32(1) / amax)))


def _llm_compressor(amaxes: Array, shared: F32, _: F32) -> tuple[Array, ...]:
    codes = _e4m3(np.minimum(shared * _bf16(amaxes / F32(6)), F32(448)))
    codes[codes == 0] = _EPSILON
    return (codes,)


LLM_COMPRESSOR = Rule(
    "memoryless_minmax", "llm-compressor", COMPRESSED,
    _llm_compressor_global, _llm_compressor, COMPRESSED_STEP,
)  # fmt: skip

# --- auto-round -----------------------------------------------------------------------------------

AUTO_ROUND_STEP = Step(
    "W · 1/(scale · 1/global_scale)",
    of=lambda scale, shared: _reciprocal(scale * _reciprocal(shared)),
    width=lambda scale, shared: scale * _reciprocal(shared),
    multiply=True,
    signed_zero=False,
)


def _auto_round(amaxes: Array, shared: F32, _: F32) -> tuple[Array, ...]:
    return (_e4m3(np.minimum(shared * (amaxes * F32(1 / 6)), F32(448))),)


AUTO_ROUND = Rule(
    "nv_fp4 without search", "auto-round", COMPRESSED,
    lambda a: F32(F32(2688) * _reciprocal(a)), _auto_round, AUTO_ROUND_STEP,
)  # fmt: skip

RULES = (MAX, MAX_CLAMPED, FOUR_OVER_SIX, FOUR_OVER_SIX_PAIRED, W4A8, LLM_COMPRESSOR, AUTO_ROUND)


def of_layout(layout: Layout) -> tuple[Rule, ...]:
    """The rules by which bytes of a layout may follow, the plainest first."""
    return tuple(rule for rule in RULES if rule.layout is layout)


def steps_of(layout: Layout) -> tuple[Step, ...]:
    """The different ways in which codes of a layout follow from their scales."""
    return tuple(dict.fromkeys(rule.step for rule in of_layout(layout)))


def widths(scale: Array, shared: F32, layout: Layout) -> Array:
    """What one unit of a code is worth in each block: E4M3 codes [rows, blocks] to float32.

    By the first rule's step: makers' steps of one layout are equal to a few units in the last place.
    """
    with np.errstate(all="ignore"):
        return np.asarray(steps_of(layout)[0].width(e4m3_to_f32(scale), shared), F32)
