"""The screen's Triton kernels beside their twin: on a GPU, or in Triton's interpreter without one."""

import pytest
import torch
from quantize.layerwise import screen_twin as twin
from quantize.layerwise.screen_rows import NEURONS, TILING, Pairs, drawn, exact

from proofcard.quantize.layerwise import screen_codes as codes
from proofcard.quantize.layerwise import screen_kernels as kernels
from proofcard.quantize.layerwise.screen import factors, limits, middle

FEW = 24
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROWS = 40 if DEVICE == "cuda" else 12
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


@pytest.mark.parametrize("kind", ["outliers", "not a number"])
def test_codes_candidates_and_flags_are_the_twin_s(kind: str) -> None:
    x, pairs = drawn(kind, 1, tokens=34)
    pairs = [(gate[:20].contiguous(), up[:20].contiguous()) for gate, up in pairs[:2]]
    neurons = 20
    center = middle(x)
    up = factors(x - center.bfloat16(), [weight for pair in pairs for weight in pair])
    there: Pairs = [(gate.to(DEVICE), up.to(DEVICE)) for gate, up in pairs]
    table, theirs = codes.addresses(there), twin.addresses(pairs)
    there_too = center.to(DEVICE)
    tokens = codes.code_tokens(x.to(DEVICE), there_too, (1 / up).to(DEVICE), TILING)
    weights = codes.code_weights(table, neurons, there_too, up.to(DEVICE), TILING)
    expected = (
        twin.code_tokens(x, center, 1 / up, TILING),
        twin.code_weights(theirs, neurons, center, up, TILING),
    )
    for made, wanted in zip((tokens, weights), expected, strict=True):
        assert (made.codes.cpu().int() - wanted.codes.int()).abs().max() <= (DEVICE == "cuda")
        torch.testing.assert_close(made.measures.cpu(), wanted.measures, rtol=1e-4, atol=0, equal_nan=True)
    values = exact(x, pairs).nan_to_num(0).flatten(1).sort(descending=True).values
    for most in (values[:, 3], 1.1 * values[:, 0]):
        counts, found, marks = kernels.candidates(tokens, weights, limits(most).to(DEVICE), TILING)
        made = kernels.recheck(x.to(DEVICE), table, neurons, most.to(DEVICE), counts, found, FEW, TILING)
        *wanted, marked = twin.candidates(*expected, limits(most), TILING)
        assert (marks.cpu() != marked).sum() <= 2 * (DEVICE == "cuda")
        listed = [
            twin.pairs_of(*pair, wide=32, tiling=TILING) for pair in ((counts.cpu(), found.cpu()), wanted)
        ]
        for own, other in zip(*listed, strict=True):
            assert own == other if DEVICE == "cpu" else len(own ^ other) <= 2
        assert rows_of(*made) == rows_of(*twin.recheck(x, theirs, neurons, most, *wanted, FEW, TILING))


def test_a_long_list_flags_and_is_cut() -> None:
    x, pairs = drawn("plain", 2, tokens=40)
    counts = torch.tensor([0, kernels.CAPACITY + 1, 0], dtype=torch.int32, device=DEVICE)
    found = torch.full((3, kernels.CAPACITY, 2), 1 << 30, dtype=torch.int32, device=DEVICE)
    there: Pairs = [(gate.to(DEVICE), up.to(DEVICE)) for gate, up in pairs]
    table, most = codes.addresses(there), torch.zeros(3, device=DEVICE)
    flagged, _ = kernels.recheck(x.to(DEVICE), table, NEURONS, most, counts, found, FEW, TILING)
    assert flagged.tolist() == [0, FEW + 1, 0]


def test_rows_are_picked_once_and_no_more_than_asked_for() -> None:
    """Every pair of every row is a candidate above a maximum of 0, and 7 rows are wanted."""
    x, pairs = drawn("plain", 3, tokens=ROWS)
    there: Pairs = [(gate.to(DEVICE), up.to(DEVICE)) for gate, up in pairs[:1]]
    words = torch.arange(ROWS * 2 * 4, dtype=torch.int32)  # two tiles of neurons, four words of each
    found = torch.zeros((1, kernels.CAPACITY, 2), dtype=torch.int32)
    found[0, : len(words)] = torch.stack([words, torch.full_like(words, 255)], dim=1)
    counts, most = torch.tensor([len(words)], dtype=torch.int32), torch.zeros(1)
    asked = (codes.addresses(there), NEURONS, most.to(DEVICE), counts.to(DEVICE), found.to(DEVICE))
    for few in (7, 64):
        flagged, picked = kernels.recheck(x.to(DEVICE), *asked, few, TILING)
        assert flagged.tolist() == [ROWS]
        rows = picked.cpu()[0, :ROWS].tolist()
        assert len(set(rows)) == len(rows) and max(rows) < ROWS
    assert picked.cpu()[0, ROWS:].tolist() == [0] * (64 - ROWS)


def rows_of(flagged: torch.Tensor, picked: torch.Tensor) -> list[tuple[int, list[int]]]:
    """How many rows of each expert may be above, and which, in order, where all of them are listed."""
    return [
        (count, sorted(rows[:count]) if count <= FEW else [])
        for count, rows in zip(flagged.tolist(), picked.tolist(), strict=True)
    ]
