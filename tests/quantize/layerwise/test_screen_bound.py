"""No pair that exceeds the recorded maximum is ever left out: the bound, on adverse inputs and drawn ones."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize.layerwise import screen_twin as twin
from quantize.layerwise.screen_rows import KINDS, NEURONS, TILING, Pairs, drawn, exact

from proofcard.quantize.layerwise.screen import factors, limits, middle


def judged(
    x: torch.Tensor, pairs: Pairs, most: torch.Tensor
) -> tuple[list[set[tuple[int, int]]], list[bool]]:
    """Each expert's candidates, and whether any row of it is left."""
    table = twin.addresses(pairs)
    center = middle(x)
    up = factors(x - center.bfloat16(), [weight for pair in pairs for weight in pair])
    weights = twin.code_weights(table, NEURONS, center, up, TILING)
    tokens = twin.code_tokens(x, center, 1 / up, TILING)
    counts, found, marks = twin.candidates(tokens, weights, limits(most), TILING)
    flags, _ = twin.recheck(x, table, NEURONS, most, counts, found, 8, TILING)
    wide = weights.measures.shape[1] // len(pairs)
    listed = twin.pairs_of(counts, found, wide, TILING)
    for own, marked in zip(listed, marks, strict=True):
        assert {neuron for _, neuron in own} <= set(marked.nonzero()[:, 0].tolist())
    return listed, [bool(flag) for flag in flags]


def assert_none_is_missed(x: torch.Tensor, pairs: Pairs, most: torch.Tensor) -> list[bool]:
    values = exact(x, pairs)
    listed, flagged = judged(x, pairs, most)
    for own, pairs_listed, flag, limit in zip(values, listed, flagged, most.tolist(), strict=True):
        over = {(int(t), int(n)) for t, n in (~(own <= limit)).nonzero()}
        assert over <= pairs_listed
        assert flag or not over
    return flagged


@pytest.mark.parametrize("place", [0, 1, 5, 300, None])
@pytest.mark.parametrize("kind", KINDS)
def test_what_exceeds_a_maximum_is_found(kind: str, place: int | None) -> None:
    """The recorded maximum is the largest value itself, one a little or far below it, or nothing at all."""
    x, pairs = drawn(kind, 1)
    ordered = exact(x, pairs).nan_to_num(0).flatten(1).sort(descending=True).values
    most = torch.zeros(len(pairs)) if place is None else ordered[:, place]
    assert_none_is_missed(x, pairs, most)


@settings(max_examples=40, derandomize=False)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6), st.floats(-30, 3))
def test_whatever_is_drawn(kind: str, seed: int, below: float) -> None:
    x, pairs = drawn(kind, seed, tokens=33)
    largest = exact(x, pairs).nan_to_num(0).amax(dim=(1, 2))
    assert_none_is_missed(x, pairs, (largest * 2.0**below).bfloat16().float())


@settings(max_examples=40, derandomize=False)
@given(st.data())
def test_any_bits_at_all(data: st.DataObject) -> None:
    """Rows and weights of any BF16 bits, NaN and infinity among them."""

    def bits(rows: int) -> torch.Tensor:
        row = st.lists(st.integers(0, 0xFFFF), min_size=rows * 4, max_size=rows * 4)
        return (
            torch.tensor(data.draw(row), dtype=torch.int32)
            .to(torch.uint16)
            .view(torch.bfloat16)
            .view(rows, 4)
        )

    x, gate, up = bits(3), bits(NEURONS)[:], bits(NEURONS)
    largest = exact(x, [(gate, up)]).flatten()
    for most in (largest.nan_to_num(0, 0).max(), largest.nan_to_num(0, 0).median(), torch.tensor(torch.inf)):
        values = exact(x, [(gate, up)])
        _, [flagged] = judged(x, [(gate, up)], most[None])
        assert flagged or bool((values <= most).all())


def test_what_rows_have_in_common_is_not_lost_in_their_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far below their maximum, more of such rows are left when the center is not taken away first."""
    x, pairs = drawn("in common", 5)
    most = exact(x, pairs).amax(dim=(1, 2)) * 1.05
    with_it = sum(map(len, judged(x, pairs, most)[0]))
    monkeypatch.setattr(sys.modules[__name__], "middle", lambda rows: torch.zeros(rows.shape[1]))
    assert with_it < 0.8 * sum(map(len, judged(x, pairs, most)[0]))


def test_a_usual_batch_flags_nothing() -> None:
    x, pairs = drawn("plain", 2, tokens=400)
    most = exact(x, pairs).amax(dim=(1, 2))
    before = assert_none_is_missed(x[:100], pairs, most * 1.05)
    assert before == [False] * len(pairs)


def test_a_value_equal_to_the_maximum_need_not_be_flagged_and_one_step_below_it_is() -> None:
    x = torch.zeros(4, 48, dtype=torch.bfloat16)
    x[2, 0] = 3.0
    gate, up = torch.zeros(2, NEURONS, 48, dtype=torch.bfloat16)
    gate[1, 0], up[1, 0] = 2.0, 1.5
    (value,) = exact(x, [(gate, up)]).amax(dim=(1, 2))
    assert judged(x, [(gate, up)], value[None])[1] == [False]
    below = (value.bfloat16().view(torch.int16) - 1).view(torch.bfloat16).float()
    assert judged(x, [(gate, up)], below[None])[1] == [True]


def test_more_candidates_than_are_kept_flag_the_expert(monkeypatch: pytest.MonkeyPatch) -> None:
    x, pairs = drawn("plain", 3)
    most = exact(x, pairs).flatten(1).sort(descending=True).values[:, 4]
    monkeypatch.setattr(twin, "CAPACITY", 1)
    assert judged(x, pairs, most * 10)[1] == [False] * 3
    assert judged(x, pairs, most)[1] == [True] * 3


def test_factors_even_out_the_channels_and_stay_finite() -> None:
    x, pairs = drawn("outliers", 4)
    x[:, 9], x[0, 10], x[0, 11] = 0, torch.nan, torch.inf
    made = factors(x, [weight for pair in pairs for weight in pair])
    assert 4 < made[:3].mean() / made[12:].mean() < 7
    assert bool((made > 0).all()) and bool(made.isfinite().all())
