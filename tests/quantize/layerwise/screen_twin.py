"""The screen's kernels in plain torch, with the same names and results: for a CPU, and to check Triton's."""

from collections.abc import Sequence
from math import sqrt

import torch

from proofcard.quantize.layerwise import screen_codes, screen_kernels
from proofcard.quantize.layerwise.screen_codes import Coded, Tiling, gamma, padded
from proofcard.quantize.layerwise.screen_kernels import CAPACITY

Tensor = torch.Tensor
_UP = 1 + 2**-18
_addresses = screen_codes.addresses
_TABLES: dict[int, list[tuple[Tensor, Tensor]]] = {}


PLACES = {
    screen_codes: ("addresses", "code_tokens", "code_weights"),
    screen_kernels: ("candidates", "recheck"),
}
"""What this file has twins of."""


def addresses(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The kernels' table, with the weights kept by its own address."""
    table = _addresses(pairs)
    _TABLES[table.data_ptr()] = list(pairs)
    return table


def code_tokens(rows: Tensor, center: Tensor, factor: Tensor, tiling: Tiling) -> Coded:
    count, channels = rows.shape
    tall = padded(count, tiling.tokens)
    codes, unit, error, norm = _coded(_fill((rows.float() - center) * factor, tall, tiling.depth))
    whole = torch.zeros(tall)
    whole[:count] = (rows.float() * factor).square().sum(dim=1).sqrt()
    away = (center * factor).square().sum().sqrt() * (torch.arange(tall) < count)
    error += (gamma(channels) * whole + 2**-20 * away) * (1 + 2**-10) / unit + 2**-20 * norm
    inverse = torch.where(torch.arange(tall) < count, 1 / unit, 0.0)
    return Coded(codes, torch.stack([0.99999 / unit**2, error * _UP, norm, inverse]))


def code_weights(table: Tensor, neurons: int, center: Tensor, factor: Tensor, tiling: Tiling) -> Coded:
    wide = padded(neurons, tiling.neurons)
    codes, measures = [], []
    for pair in _TABLES[table.data_ptr()]:
        gate, up = (_coded(_fill(weight.float() * factor, wide, tiling.depth)) for weight in pair)
        codes.append(torch.stack([gate[0], up[0]], dim=1).flatten(0, 1))
        sides = [0.99999 / gate[1] / up[1]]
        for weight, (_, unit, error, norm) in zip(pair, (gate, up), strict=True):
            central = torch.zeros(wide, dtype=torch.float64)
            central[:neurons] = weight.double() @ center.double()
            sides += [(norm + error) * _UP, error, (central / unit).float()]
        measures.append(torch.stack(sides))
    return Coded(torch.cat(codes), torch.cat(measures, dim=1))


def bounds(tokens: Coded, weights: Coded, experts: int) -> tuple[Tensor, Tensor]:
    """In units, float32 [experts, tokens, neurons]: the most that |gate · up| can be; and 1/unit of it."""
    wide = weights.measures.shape[1] // experts
    sums = tokens.codes.double() @ weights.codes.double().T
    gate, up = sums.float().view(-1, experts, wide, 2).movedim(0, 1).unbind(-1)
    inverse, error, norm, center = tokens.measures[:, None, :, None]
    pair, *sides = weights.measures.view(7, experts, 1, wide)
    most = [
        (values + center * central).abs() + error * norms + norm * errors
        for values, (norms, errors, central) in ((gate, sides[:3]), (up, sides[3:]))
    ]
    return most[0] * most[1], inverse, pair  # type: ignore[return-value]


def candidates(
    tokens: Coded, weights: Coded, limits: Tensor, tiling: Tiling
) -> tuple[Tensor, Tensor, Tensor]:
    most, inverse, pair = bounds(tokens, weights, len(limits))  # type: ignore[misc]
    over = ~(most < inverse * torch.clamp(limits[:, None, None] * pair, max=2.0**40))
    experts, tall, wide = over.shape
    across = wide // tiling.neurons
    shifts = torch.arange(tiling.neurons // 4)[:, None]
    words = (over.view(experts, tall, across, -1, 4).long() << shifts).sum(dim=3).flatten(1)
    words = torch.where(words >= 1 << 31, words - (1 << 32), words).int()
    counts = (words != 0).sum(dim=1).int()
    found = torch.empty((experts, CAPACITY, 2), dtype=torch.int32)
    for expert, row in enumerate(words):
        at = row.nonzero()[:CAPACITY, 0]
        found[expert, : len(at)] = torch.stack([at.int(), row[at]], dim=1)
    return counts, found, over.any(dim=1)


def pairs_of(counts: Tensor, found: Tensor, wide: int, tiling: Tiling) -> list[set[tuple[int, int]]]:
    """Each expert's listed candidates as (token, neuron)."""
    per_row = wide // tiling.neurons * 4
    every: list[set[tuple[int, int]]] = []
    for count, listed in zip(counts.tolist(), found, strict=True):
        own = set()
        for place, bits in listed[: min(count, CAPACITY)].tolist():
            first = place % per_row // 4 * tiling.neurons + place % 4
            own |= {
                (place // per_row, first + 4 * bit) for bit in range(tiling.neurons // 4) if bits >> bit & 1
            }
        every.append(own)
    return every


def recheck(
    rows: Tensor, table: Tensor, neurons: int, largest: Tensor, counts: Tensor,
    found: Tensor, few: int, tiling: Tiling,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    flagged = (counts > CAPACITY).int() * (few + 1)
    picked = torch.zeros((len(counts), few), dtype=torch.int32)
    wide = padded(neurons, tiling.neurons)
    listed = pairs_of(torch.where(counts > CAPACITY, 0, counts), found, wide, tiling)
    for expert, pairs in enumerate(listed):
        inside = [(token, neuron) for token, neuron in pairs if token < len(rows) and neuron < neurons]
        if inside:
            tokens, own = (list(part) for part in zip(*inside, strict=True))
            products = (_product(rows[tokens], w[own]) for w in _TABLES[table.data_ptr()][expert])
            (gate, gate_half), (up, up_half) = products
            peak = _peak((gate - gate_half).bfloat16().float(), (gate + gate_half).bfloat16().float())
            value = (peak.bfloat16() * (up.abs() + up_half).bfloat16()).float()
            finite = (gate_half < 2.0**92) & (up_half < 2.0**92)
            over = torch.tensor(tokens)[~((value <= largest[expert]) & finite)].unique()
            flagged[expert] = len(over)
            picked[expert, : len(over)] = over[:few].int()
    return flagged, picked


def _product(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    parts = x.float() * weight.float()
    widen = 1.25 * gamma(x.shape[1]) * (1 + 2**-9)
    return parts.sum(dim=1), parts.abs().sum(dim=1) * widen + 2.0**-100


def _peak(low: Tensor, high: Tensor) -> Tensor:
    rising = high.clamp(min=0)
    deep = torch.where(high < -1.2785, high, low.clamp(min=-1.2784645)).clamp(max=0)
    most = torch.maximum(rising * torch.sigmoid(rising), -deep * torch.sigmoid(deep))
    return most * (1 + 2**-16) + 2.0**-115


def _fill(values: Tensor, rows: int, depth: int) -> Tensor:
    whole = torch.zeros((rows, padded(values.shape[1], depth)))
    whole[: values.shape[0], : values.shape[1]] = values
    whole.channels = values.shape[1]  # type: ignore[attr-defined]
    return whole


def _coded(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    spare = sqrt(values.channels) * 2.0**-14 + 2.0**-8  # type: ignore[attr-defined]
    usable = values.abs() < 2.0**46
    values = torch.where(usable, values, 0.0)
    unit = (values.abs().amax(dim=1) / 127).clamp(min=2.0**-40)
    exact = values / unit[:, None]
    codes = (exact + 0.5).floor()
    norm = codes.square().sum(dim=1).sqrt() * _UP
    error = (exact - codes).square().sum(dim=1).sqrt() * (1 + 2**-10) + spare
    return codes.to(torch.int8), unit, error, torch.where(usable.all(dim=1), norm, torch.nan)
