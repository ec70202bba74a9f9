"""Triton kernels of the screen (`screen`): int8 rows with their errors, the bound, and the recheck.

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
from triton.tools.tensor_descriptor import TensorDescriptor

DEEPEST = 1 << 14
"""The longest row: its squares add up in int32, and its float32 sums are good to 2^-10."""
CAPACITY = 32768
"""Words of candidates per expert; to recheck so many takes half as long as the exact products."""
_TILES = 4  # of one program, 0.1 ms on an H100: more urgent work waits for no longer than that
_PARTS = 32  # programs that recheck one expert's candidates
_UP = tl.constexpr(1 + 2**-18)  # more than a few float32 roundings
_LEAST_UNIT = tl.constexpr(2.0**-40)
_MOST = tl.constexpr(2.0**46)
_MOST_SCALE = tl.constexpr(2.0**40)


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

    Of tokens: 1/unit², error and norm in units. Of pairs of weights: 1/(unit of gate · unit of up); norm and
    error of the gate, norm and error of the up, in units.
    """

    codes: torch.Tensor
    measures: torch.Tensor


def gamma(channels: int) -> float:
    """|FP32 product of the exact pass − real product| ≤ gamma · Σ|x·w|: see docs/layerwise.md."""
    return (channels + 16) * 2.0**-22


def padded(size: int, tile: int) -> int:
    """The least multiple of `tile` that holds `size`."""
    return -(-size // tile) * tile


def code_tokens(rows: torch.Tensor, factor: torch.Tensor, tiling: Tiling) -> Coded:
    """BF16 `rows` [tokens, channels], each channel times its `factor`, as int8."""
    count, channels = rows.shape
    tall, deep = padded(count, tiling.tokens), padded(channels, tiling.depth)
    codes = torch.empty((tall, deep), dtype=torch.int8, device=rows.device)
    measures = torch.empty((3, tall), dtype=torch.float32, device=rows.device)
    _code_tokens[(tall,)](
        rows, factor, codes, measures, count, tall, channels, deep, gamma(channels), _spare(channels),
        BLOCK=triton.next_power_of_2(deep), num_warps=8,
    )  # fmt: skip
    return Coded(codes, measures)


def code_weights(table: torch.Tensor, neurons: int, factor: torch.Tensor, tiling: Tiling) -> Coded:
    """Pairs of BF16 weights [neurons, channels] as int8: gate and up of each neuron in turn.

    `table` int64 [experts, 2] has the addresses of each expert's gate and up, which must be contiguous.
    """
    experts, channels = len(table), len(factor)
    wide, deep = padded(neurons, tiling.neurons), padded(channels, tiling.depth)
    codes = torch.empty((experts * 2 * wide, deep), dtype=torch.int8, device=factor.device)
    measures = torch.empty((5, experts * wide), dtype=torch.float32, device=factor.device)
    _code_weights[(wide, experts)](
        table, factor, codes, measures, neurons, experts * wide, channels, deep, _spare(channels),
        BLOCK=triton.next_power_of_2(deep), num_warps=8,
    )  # fmt: skip
    return Coded(codes, measures)


def candidates(
    tokens: Coded, weights: Coded, limits: torch.Tensor, tiling: Tiling
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs whose bound is not below their expert's limit, float32 [experts].

    Returns how many words of candidates each expert has, int32 [experts], possibly more than `CAPACITY`, and
    the first ones, int32 [experts, CAPACITY, 2]: the word's place and its bits, as `recheck` reads them.
    """
    experts = len(limits)
    tall, deep = tokens.codes.shape
    wide = weights.measures.shape[1] // experts
    counts = torch.zeros(experts, dtype=torch.int32, device=limits.device)
    found = torch.empty((experts, CAPACITY, 2), dtype=torch.int32, device=limits.device)
    tiles = experts * (tall // tiling.tokens) * (wide // tiling.neurons)
    programs = triton.cdiv(tiles, _TILES)
    _candidates[(programs,)](
        TensorDescriptor.from_tensor(tokens.codes, [tiling.tokens, tiling.depth]),
        TensorDescriptor.from_tensor(weights.codes, [2 * tiling.neurons, tiling.depth]),
        tokens.measures, weights.measures, limits, counts, found, tall, wide, experts, tiles,
        DEEP=deep, TOKENS=tiling.tokens, NEURONS=tiling.neurons, DEPTH=tiling.depth, GROUP=tiling.group,
        CAPACITY=CAPACITY, PROGRAMS=programs,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return counts, found


def recheck(
    rows: torch.Tensor,
    table: torch.Tensor,
    neurons: int,
    largest: torch.Tensor,
    counts: torch.Tensor,
    found: torch.Tensor,
    tiling: Tiling,
) -> torch.Tensor:
    """int32 [experts], not 0 where a candidate may exceed `largest`, float32 [experts], as BF16 rounds.

    Candidates' products are taken again from the BF16 `rows` and weights. More than `CAPACITY` words: not 0.
    """
    channels = rows.shape[1]
    flags = (counts > CAPACITY).to(torch.int32)
    _recheck[(len(table), _PARTS)](
        rows, table, largest, counts, found, flags, len(rows), neurons, channels,
        padded(neurons, tiling.neurons) // tiling.neurons * 4, 1.25 * gamma(channels) * (1 + 2**-9),
        NEURONS=tiling.neurons, CAPACITY=CAPACITY, PARTS=_PARTS,
        CHUNK=min(4096, triton.next_power_of_2(channels)), num_warps=8,
    )  # fmt: skip
    return flags


def addresses(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The table of `code_weights` and `recheck`; the weights must stay where they are while it is used."""
    table = [[gate.data_ptr(), up.data_ptr()] for gate, up in pairs]
    return torch.tensor(table, dtype=torch.int64, device=pairs[0][0].device)


def _spare(channels: int) -> float:
    """What an error in units may be above the computed one: quotients are off by 2^-17, and never 0."""
    return sqrt(channels) * 2.0**-16 + 2.0**-8


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
    rows, factor, codes, measures, count, tall, channels, deep, gamma, spare, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = (channel < channels) & (row < count)
    values = tl.load(rows + row.to(tl.int64) * channels + channel, mask=inside, other=0.0).to(tl.float32)
    code, unit, error, norm = _coded(values * tl.load(factor + channel, mask=inside, other=1.0), spare)
    tl.store(codes + row.to(tl.int64) * deep + channel, code, mask=channel < deep)
    # In whole: error · ‖w‖ covers what the codes lose, and gamma · ‖x‖‖w‖ of the exact pass's own sums.
    tl.store(measures + row, 0.99999 / (unit * unit))
    tl.store(measures + tall + row, (error + gamma * (norm + error)) * _UP)
    tl.store(measures + 2 * tall + row, norm)


@triton.jit
def _code_weights(table, factor, codes, measures, neurons, total, channels, deep, spare, BLOCK: tl.constexpr):
    neuron, expert = tl.program_id(0), tl.program_id(1)
    pair = expert.to(tl.int64) * tl.num_programs(0) + neuron
    channel = tl.arange(0, BLOCK)
    inside = (channel < channels) & (neuron < neurons)
    scale = tl.load(factor + channel, mask=inside, other=1.0)
    inverse = 0.99999
    for side in tl.static_range(2):
        weight = tl.load(table + 2 * expert + side).to(tl.pointer_type(tl.bfloat16))
        at = tl.multiple_of(weight + neuron.to(tl.int64) * channels + channel, 16)
        values = tl.load(at, mask=inside, other=0.0)
        code, unit, error, norm = _coded(values.to(tl.float32) * scale, spare)
        tl.store(codes + (2 * pair + side) * deep + channel, code, mask=channel < deep)
        tl.store(measures + (1 + 2 * side) * total + pair, (norm + error) * _UP)
        tl.store(measures + (2 + 2 * side) * total + pair, error)
        inverse = inverse / unit
    tl.store(measures + pair, inverse)


@triton.jit
def _candidates(
    tokens, weights, token_measures, pair_measures, limits, counts, found, tall, wide, experts, tiles,
    DEEP: tl.constexpr, TOKENS: tl.constexpr, NEURONS: tl.constexpr, DEPTH: tl.constexpr,
    GROUP: tl.constexpr, CAPACITY: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    """One launch for all experts' tiles. No branch: the next tile's loads begin before the last is judged."""
    across, down = wide // NEURONS, tall // TOKENS
    for tile in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=True):
        expert = tile // (across * down)
        place = tile % (across * down)
        first = place // (GROUP * across) * GROUP
        size = tl.minimum(down - first, GROUP)
        place = place % (GROUP * across)
        m = (first + place % size) * TOKENS
        n = place // size * NEURONS
        sums = tl.zeros((TOKENS, 2 * NEURONS), tl.int32)
        for k in range(0, DEEP, DEPTH):
            a, b = tokens.load([m, k]), weights.load([2 * (expert * wide + n), k])
            sums = tl.dot(a, b.T, sums, out_dtype=tl.int32)
        gate, up = tl.split(tl.reshape(sums, (TOKENS, NEURONS, 2)))
        row = token_measures + m + tl.arange(0, TOKENS)
        inverse = tl.load(row)[:, None]
        error, norm = tl.load(row + tall)[:, None], tl.load(row + 2 * tall)[:, None]
        total = experts * wide
        pair = pair_measures + expert * wide + n + tl.arange(0, NEURONS)
        scale = tl.minimum(tl.load(limits + expert) * tl.load(pair), _MOST_SCALE)[None, :]
        gate_norm, gate_error = tl.load(pair + total)[None, :], tl.load(pair + 2 * total)[None, :]
        up_norm, up_error = tl.load(pair + 3 * total)[None, :], tl.load(pair + 4 * total)[None, :]
        most_gate = tl.abs(gate.to(tl.float32)) + error * gate_norm + norm * gate_error
        most_up = tl.abs(up.to(tl.float32)) + error * up_norm + norm * up_error
        below = most_gate * most_up < inverse * scale
        # Four words of a row, the bits of every fourth neuron in each: their sums stay within a thread.
        bits = tl.where(below, 0, (1 << (tl.arange(0, NEURONS) // 4))[None, :])
        words = tl.sum(tl.reshape(bits, (TOKENS, NEURONS // 4, 4)), axis=1)
        some = words != 0
        counter = counts + expert + tl.zeros((TOKENS, 4), tl.int32)
        slot = tl.atomic_add(counter, tl.full((TOKENS, 4), 1, tl.int32), mask=some, sem="relaxed")
        at = found + (expert * CAPACITY + slot).to(tl.int64) * 2
        kept = some & (slot < CAPACITY)
        word = (m + tl.arange(0, TOKENS))[:, None] * (across * 4) + n // NEURONS * 4
        tl.store(at, word + tl.arange(0, 4)[None, :], mask=kept)
        tl.store(at + 1, words, mask=kept)


@triton.jit
def _recheck(
    rows, table, largest, counts, found, flags, count, neurons, channels, words, gamma,
    NEURONS: tl.constexpr, CAPACITY: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    expert = tl.program_id(0)
    most = tl.load(largest + expert)
    gates = tl.load(table + 2 * expert).to(tl.pointer_type(tl.bfloat16))
    ups = tl.load(table + 2 * expert + 1).to(tl.pointer_type(tl.bfloat16))
    listed = tl.load(counts + expert)
    listed = tl.where(listed > CAPACITY, 0, listed)
    for i in range(tl.program_id(1), listed, PARTS):
        place = tl.load(found + (expert * CAPACITY + i).to(tl.int64) * 2)
        bits = tl.load(found + (expert * CAPACITY + i).to(tl.int64) * 2 + 1)
        token, first = place // words, place % words // 4 * NEURONS + place % 4
        for bit in range(NEURONS // 4):
            neuron = first + 4 * bit
            if (((bits >> bit) & 1) != 0) & (token < count) & (neuron < neurons):
                row = rows + token.to(tl.int64) * channels
                gate, gate_half = _product(
                    row, gates + neuron.to(tl.int64) * channels, channels, gamma, CHUNK
                )
                up, up_half = _product(row, ups + neuron.to(tl.int64) * channels, channels, gamma, CHUNK)
                peak = _peak(_bf16(gate - gate_half), _bf16(gate + gate_half))
                value = _bf16(_bf16(peak) * _bf16(tl.abs(up) + up_half))
                safe = (value <= most) & (gate_half < _MOST * _MOST) & (up_half < _MOST * _MOST)
                if safe == 0:
                    tl.store(flags + expert, 1)


@triton.jit
def _product(row, weight, channels, gamma, CHUNK: tl.constexpr):
    """x·w in float32, and by how much the exact pass's may differ from it."""
    total = tl.zeros((CHUNK,), tl.float32)
    size = tl.zeros((CHUNK,), tl.float32)
    for start in range(0, channels, CHUNK):
        channel = start + tl.arange(0, CHUNK)
        inside = channel < channels
        x = tl.load(row + channel, mask=inside, other=0.0).to(tl.float32)
        part = x * tl.load(tl.multiple_of(weight + channel, 16), mask=inside, other=0.0).to(tl.float32)
        total += part
        size += tl.abs(part)
    return tl.sum(total), tl.sum(size) * gamma + 7.9e-31  # 2^-100: what underflows


@triton.jit
def _peak(low, high):
    """The most that float32's |silu| is on [low, high]. It rises from 0 both ways and falls below -1.2785."""
    rising = tl.maximum(high, 0.0)
    rising = rising / (1.0 + tl.exp(-rising))
    deep = tl.minimum(tl.where(high < -1.2785, high, tl.maximum(low, -1.2784645)), 0.0)
    falling = -deep / (1.0 + tl.exp(-deep))
    return tl.maximum(rising, falling) * 1.0000153 + 2.4e-35


@triton.jit
def _bf16(value):
    """To the nearest BF16, ties to even; not for NaN."""
    bits = value.to(tl.int32, bitcast=True)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
