"""The screen's Triton kernels beside their twin: on a GPU, or in Triton's interpreter without one."""

import pytest
import torch
from quantize.layerwise import screen_twin as twin
from quantize.layerwise.screen_rows import NEURONS, TILING, Pairs, drawn, exact

from proofcard.quantize.layerwise import screen_kernels as kernels
from proofcard.quantize.layerwise.screen import factors, limits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


@pytest.mark.parametrize("kind", ["outliers", "not a number"])
def test_codes_candidates_and_flags_are_the_twin_s(kind: str) -> None:
    x, pairs = drawn(kind, 1, tokens=40)
    pairs = [(gate[:20].contiguous(), up[:20].contiguous()) for gate, up in pairs[:2]]
    neurons = 20
    up = factors(x, [weight for pair in pairs for weight in pair])
    there: Pairs = [(gate.to(DEVICE), up.to(DEVICE)) for gate, up in pairs]
    table, theirs = kernels.addresses(there), twin.addresses(pairs)
    tokens = kernels.code_tokens(x.to(DEVICE), (1 / up).to(DEVICE), TILING)
    weights = kernels.code_weights(table, neurons, up.to(DEVICE), TILING)
    expected = twin.code_tokens(x, 1 / up, TILING), twin.code_weights(theirs, neurons, up, TILING)
    for made, wanted in zip((tokens, weights), expected, strict=True):
        assert (made.codes.cpu().int() - wanted.codes.int()).abs().max() <= (DEVICE == "cuda")
        torch.testing.assert_close(made.measures.cpu(), wanted.measures, rtol=1e-4, atol=0, equal_nan=True)
    values = exact(x, pairs).nan_to_num(0).flatten(1).sort(descending=True).values
    for most in (values[:, 3], 1.1 * values[:, 0]):
        counts, found = kernels.candidates(tokens, weights, limits(most).to(DEVICE), TILING)
        flags = kernels.recheck(x.to(DEVICE), table, neurons, most.to(DEVICE), counts, found, TILING)
        wanted = twin.candidates(*expected, limits(most), TILING)
        listed = [
            twin.pairs_of(*pair, wide=32, tiling=TILING) for pair in ((counts.cpu(), found.cpu()), wanted)
        ]
        for own, other in zip(*listed, strict=True):
            assert own == other if DEVICE == "cpu" else len(own ^ other) <= 2
        assert flags.cpu().tolist() == twin.recheck(x, theirs, neurons, most, *wanted, TILING).tolist()


def test_a_long_list_flags_and_is_cut() -> None:
    x, pairs = drawn("plain", 2, tokens=40)
    counts = torch.tensor([0, kernels.CAPACITY + 1, 0], dtype=torch.int32, device=DEVICE)
    found = torch.full((3, kernels.CAPACITY, 2), 1 << 30, dtype=torch.int32, device=DEVICE)
    there: Pairs = [(gate.to(DEVICE), up.to(DEVICE)) for gate, up in pairs]
    table, most = kernels.addresses(there), torch.zeros(3, device=DEVICE)
    assert kernels.recheck(x.to(DEVICE), table, NEURONS, most, counts, found, TILING).tolist() == [0, 1, 0]
