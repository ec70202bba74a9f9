"""Triton kernels that turn rows and weights into int8 with their errors, for the screen (`screen_kernels`).

The formulas and their proof are in docs/layerwise.md. Every quantity that rounds is rounded so that the bound
stays one; everything that is not finite counts as too large.
"""

# mypy: disallow-untyped-defs=False

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
import triton
import triton.language as tl

DEEPEST = 1 << 14
"""The longest row: its squares add up in int32, and its float32 sums are good to 2^-10."""
_UP = tl.constexpr(1 + 2**-18)  # more than a few float32 roundings
_LEAST_UNIT = tl.constexpr(2.0**-40)
_MOST = tl.constexpr(2.0**46)


@dataclass(frozen=True)
class Tiling:
    """A tile: `tokens` by `neurons`, `depth` channels at a time; `group` tiles of tokens share weights."""

    tokens: int
    neurons: int
    depth: int
    group: int
    warps: int
    stages: int


HOPPER = Tiling(tokens=128, neurons=128, depth=128, group=8, warps=8, stages=4)
"""The fastest of nineteen on an H100, and as fast with any `group` from 4 to 32."""


@dataclass(frozen=True)
class Coded:
    """int8 `codes` [rows, channels], padded to whole tiles, and float32 `measures` [kinds, rows or pairs].

    Of tokens: 1/unit², error and norm in units, 1/unit. Of pairs of weights: 1/(unit of gate · unit of up);
    norm, error and product with the center of the gate, then of the up, in units.
    """

    codes: torch.Tensor
    measures: torch.Tensor


def gamma(channels: int) -> float:
    """|FP32 product of the exact pass − real product| ≤ gamma · Σ|x·w|: see docs/layerwise.md."""
    return (channels + 16) * 2.0**-22


def padded(size: int, tile: int) -> int:
    """The least multiple of `tile` that holds `size`."""
    return -(-size // tile) * tile


def code_tokens(rows: torch.Tensor, center: torch.Tensor, factor: torch.Tensor, tiling: Tiling) -> Coded:
    """BF16 `rows` [tokens, channels] less the `center`, each channel times its `factor`, as int8."""
    count, channels = rows.shape
    tall, deep = padded(count, tiling.tokens), padded(channels, tiling.depth)
    codes = torch.empty((tall, deep), dtype=torch.int8, device=rows.device)
    measures = torch.empty((4, tall), dtype=torch.float32, device=rows.device)
    _code_tokens[(tall,)](
        rows, center, factor, codes, measures, count, tall, channels, deep, gamma(channels), _spare(channels),
        BLOCK=triton.next_power_of_2(deep), num_warps=8,
    )  # fmt: skip
    return Coded(codes, measures)


def code_weights(
    table: torch.Tensor, neurons: int, center: torch.Tensor, factor: torch.Tensor, tiling: Tiling
) -> Coded:
    """Pairs of BF16 weights [neurons, channels] as int8: gate and up of each neuron in turn.

    `table` int64 [experts, 2] has the addresses of each expert's gate and up, which must be contiguous.
    """
    experts, channels = len(table), len(factor)
    wide, deep = padded(neurons, tiling.neurons), padded(channels, tiling.depth)
    codes = torch.empty((experts * 2 * wide, deep), dtype=torch.int8, device=factor.device)
    measures = torch.empty((7, experts * wide), dtype=torch.float32, device=factor.device)
    _code_weights[(wide, experts)](
        table, center, factor, codes, measures, neurons, experts * wide, channels, deep, _spare(channels),
        BLOCK=triton.next_power_of_2(deep), num_warps=8,
    )  # fmt: skip
    return Coded(codes, measures)


def addresses(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The table of `code_weights` and `recheck`; the weights must stay where they are while it is used."""
    table = [[gate.data_ptr(), up.data_ptr()] for gate, up in pairs]
    return torch.tensor(table, dtype=torch.int64, device=pairs[0][0].device)


def _spare(channels: int) -> float:
    """What an error in units may be above the computed one: quotients are off by 2^-14, and never 0."""
    return sqrt(channels) * 2.0**-14 + 2.0**-8


@triton.jit
def _coded(values, spare):
    """int8 codes of one row with its unit, the norm of what is lost and the norm of the codes, in units."""
    usable = tl.abs(values) < _MOST
    odd = tl.sum((usable == 0).to(tl.int32))
    values = tl.where(usable, values, 0.0)
    unit = tl.maximum(tl.max(tl.abs(values)) / 127.0, _LEAST_UNIT)
    exact = tl.div_rn(values, tl.zeros_like(values) + unit)
    codes = tl.floor(exact + 0.5)
    left = exact - codes
    whole = codes.to(tl.int32)
    norm = tl.sqrt(tl.sum(whole * whole).to(tl.float32)) * _UP
    error = tl.sqrt(tl.sum(left * left)) * 1.0009766 + spare
    return whole.to(tl.int8), unit, error, tl.where(odd > 0, float("nan"), norm)


@triton.jit
def _code_tokens(
    rows, center, factor, codes, measures, count, tall, channels, deep, gamma, spare, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = (channel < channels) & (row < count)
    scale = tl.load(factor + channel, mask=inside, other=1.0)
    values = tl.load(rows + row.to(tl.int64) * channels + channel, mask=inside, other=0.0).to(tl.float32)
    middle = tl.load(center + channel, mask=inside, other=0.0)
    code, unit, error, norm = _coded((values - middle) * scale, spare)
    tl.store(codes + row.to(tl.int64) * deep + channel, code, mask=channel < deep)
    whole, middle = values * scale, middle * scale
    size = tl.sqrt(tl.sum(whole * whole)) * 1.0009766 / unit
    away = tl.sqrt(tl.sum(middle * middle)) * 1.0009766 / unit
    # In whole: error · ‖w‖ covers what the codes lose, gamma · ‖x‖‖w‖ of the exact pass's own sums, and the
    # roundings of the product with the center and of the codes' product, which may cancel.
    error += gamma * size + 9.5367432e-7 * (away + norm)
    tl.store(measures + row, 0.99999 / (unit * unit))
    tl.store(measures + tall + row, error * _UP)
    tl.store(measures + 2 * tall + row, norm)
    tl.store(measures + 3 * tall + row, tl.where(row < count, 1.0 / unit, 0.0))


@triton.jit
def _code_weights(
    table, center, factor, codes, measures, neurons, total, channels, deep, spare, BLOCK: tl.constexpr
):
    neuron, expert = tl.program_id(0), tl.program_id(1)
    pair = expert.to(tl.int64) * tl.num_programs(0) + neuron
    channel = tl.arange(0, BLOCK)
    inside = (channel < channels) & (neuron < neurons)
    scale = tl.load(factor + channel, mask=inside, other=1.0)
    middle = tl.load(center + channel, mask=inside, other=0.0).to(tl.float64)
    inverse = 0.99999
    for side in tl.static_range(2):
        weight = tl.load(table + 2 * expert + side).to(tl.pointer_type(tl.bfloat16))
        at = tl.multiple_of(weight + neuron.to(tl.int64) * channels + channel, 16)
        values = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        code, unit, error, norm = _coded(values * scale, spare)
        tl.store(codes + (2 * pair + side) * deep + channel, code, mask=channel < deep)
        tl.store(measures + (1 + 3 * side) * total + pair, (norm + error) * _UP)
        tl.store(measures + (2 + 3 * side) * total + pair, error)
        central = tl.sum(values.to(tl.float64) * middle) / unit
        tl.store(measures + (3 + 3 * side) * total + pair, central.to(tl.float32))
        inverse = inverse / unit
    tl.store(measures + pair, inverse)
