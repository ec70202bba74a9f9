"""Triton kernels of the screen (`screen`): the bound on int8 rows' products, and the recheck.

The formulas and their proof are in docs/layerwise.md. Every quantity that rounds is rounded so that the bound
stays one; everything that is not finite counts as too large.
"""

# mypy: disallow-untyped-defs=False

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from proofcard.quantize.layerwise.screen_codes import Coded, Tiling, gamma, padded

CAPACITY = 32768
"""Words of candidates per expert; to recheck so many takes half as long as the exact products."""
_TILES = 4  # of one program, 0.1 ms on an H100: more urgent work waits for no longer than that
_PARTS = 32  # programs that recheck one expert's candidates
_MOST = tl.constexpr(2.0**46)
_MOST_SCALE = tl.constexpr(2.0**40)


def candidates(
    tokens: Coded, weights: Coded, limits: torch.Tensor, tiling: Tiling
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs whose bound is not below their expert's limit, float32 [experts].

    Returns how many words of candidates each expert has, int32 [experts], possibly more than `CAPACITY`; the
    first ones, int32 [experts, CAPACITY, 2]: the word's place and its bits, as `recheck` reads them; and the
    neurons of all of them, bool [experts, neurons in whole tiles].
    """
    experts = len(limits)
    tall, deep = tokens.codes.shape
    wide = weights.measures.shape[1] // experts
    counts = torch.zeros(experts, dtype=torch.int32, device=limits.device)
    found = torch.empty((experts, CAPACITY, 2), dtype=torch.int32, device=limits.device)
    marks = torch.zeros((experts, wide // tiling.neurons, 1, 4), dtype=torch.int32, device=limits.device)
    tiles = experts * (tall // tiling.tokens) * (wide // tiling.neurons)
    programs = triton.cdiv(tiles, _TILES)
    _candidates[(programs,)](
        TensorDescriptor.from_tensor(tokens.codes, [tiling.tokens, tiling.depth]),
        TensorDescriptor.from_tensor(weights.codes, [2 * tiling.neurons, tiling.depth]),
        tokens.measures, weights.measures, limits, counts, found, marks, tall, wide, experts, tiles,
        DEEP=deep, TOKENS=tiling.tokens, NEURONS=tiling.neurons, DEPTH=tiling.depth, GROUP=tiling.group,
        CAPACITY=CAPACITY, PROGRAMS=programs,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    bits = torch.arange(tiling.neurons // 4, dtype=torch.int32, device=limits.device)[:, None]
    return counts, found, (marks >> bits & 1).bool().view(experts, wide)


def recheck(
    rows: torch.Tensor, table: torch.Tensor, neurons: int, largest: torch.Tensor, counts: torch.Tensor,
    found: torch.Tensor, few: int, tiling: Tiling,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Rows of which a candidate may exceed `largest`, float32 [experts], as BF16 rounds.

    Candidates' products are taken again from the BF16 `rows` and weights. Returns how many such rows each
    expert has, int32 [experts], more than `few` where there were more than `CAPACITY` words; and `few` of
    them in any order, int32 [experts, few], with 0 in the places that are left.
    """
    channels = rows.shape[1]
    flagged = (counts > CAPACITY).to(torch.int32) * (few + 1)
    picked = torch.zeros((len(table), few), dtype=torch.int32, device=rows.device)
    seen = torch.zeros((len(table), len(rows)), dtype=torch.int32, device=rows.device)
    _recheck[(len(table), _PARTS)](
        rows, table, largest.contiguous(), counts, found, seen, flagged, picked, few,
        len(rows), neurons, channels, padded(neurons, tiling.neurons) // tiling.neurons * 4,
        1.25 * gamma(channels) * (1 + 2**-9), NEURONS=tiling.neurons, CAPACITY=CAPACITY, PARTS=_PARTS,
        CHUNK=min(4096, triton.next_power_of_2(channels)), num_warps=8,
    )  # fmt: skip
    return flagged, picked


@triton.jit
def _or(one, other):
    return one | other


@triton.jit
def _candidates(
    tokens, weights, token_measures, pair_measures, limits, counts, found, marks, tall, wide, experts, tiles,
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
        center = tl.load(row + 3 * tall)[:, None]
        total = experts * wide
        pair = pair_measures + expert * wide + n + tl.arange(0, NEURONS)
        scale = tl.minimum(tl.load(limits + expert) * tl.load(pair), _MOST_SCALE)[None, :]
        gate_norm, gate_error = tl.load(pair + total)[None, :], tl.load(pair + 2 * total)[None, :]
        up_norm, up_error = tl.load(pair + 4 * total)[None, :], tl.load(pair + 5 * total)[None, :]
        gate = gate.to(tl.float32) + center * tl.load(pair + 3 * total)[None, :]
        up = up.to(tl.float32) + center * tl.load(pair + 6 * total)[None, :]
        most_gate = tl.abs(gate) + error * gate_norm + norm * gate_error
        most_up = tl.abs(up) + error * up_norm + norm * up_error
        below = most_gate * most_up < inverse * scale
        # Four words of a row, the bits of every fourth neuron in each: their sums stay within a thread.
        bits = tl.where(below, 0, (1 << (tl.arange(0, NEURONS) // 4))[None, :])
        words = tl.sum(tl.reshape(bits, (TOKENS, NEURONS // 4, 4)), axis=1)
        mark = marks + (expert * across + n // NEURONS) * 4 + tl.arange(0, 4)
        every = tl.reduce(words, 0, _or)
        tl.atomic_or(mark, every, mask=every != 0, sem="relaxed")
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
    rows, table, largest, counts, found, seen, flagged, picked, few, count, neurons, channels, words, gamma,
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
        marked = seen + expert.to(tl.int64) * count + token
        known = tl.load(marked, mask=token < count, other=1)
        for bit in range(NEURONS // 4):
            neuron = first + 4 * bit
            if (((bits >> bit) & 1) != 0) & (known == 0) & (neuron < neurons):
                row = rows + token.to(tl.int64) * channels
                gate, gate_half = _product(
                    row, gates + neuron.to(tl.int64) * channels, channels, gamma, CHUNK
                )
                up, up_half = _product(row, ups + neuron.to(tl.int64) * channels, channels, gamma, CHUNK)
                peak = _peak(_bf16(gate - gate_half), _bf16(gate + gate_half))
                value = _bf16(_bf16(peak) * _bf16(tl.abs(up) + up_half))
                safe = (value <= most) & (gate_half < _MOST * _MOST) & (up_half < _MOST * _MOST)
                if safe == 0:
                    known = tl.atomic_xchg(marked, 1)
                    if known == 0:
                        slot = tl.atomic_add(flagged + expert, 1)
                        tl.store(picked + expert * few + slot, token, mask=slot < few)
                    known = 1


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
