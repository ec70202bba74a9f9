"""Rows multiplied apart from their batch: only as many as get its bits, found out once for each shape."""

import pytest
import torch
from torch.nn.functional import linear

from proofcard.quantize.layerwise import excerpts
from proofcard.quantize.layerwise.excerpts import Excerpts

WEIGHT = torch.zeros(24, 64, dtype=torch.bfloat16)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Products of fewer than 40 rows round their sums differently; the numbers of rows that were tried."""
    tried = []

    def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        tried.append(len(rows))
        made = linear(rows.double(), weight.double())
        if len(rows) < 40:
            made = made * (1 + 2**-12)
        return made.bfloat16()

    monkeypatch.setattr(excerpts, "product", product)
    monkeypatch.setattr(excerpts, "_ROWS", (10, 30, 40, 50))
    return tried


def test_the_numbers_of_rows_with_the_same_bits(shapes: list[int]) -> None:
    one = Excerpts()
    assert one.rows(333, WEIGHT) == (40, 50)
    before = len(shapes)
    assert one.rows(333, WEIGHT) == (40, 50)
    assert len(shapes) == before
    assert one.rows(199, WEIGHT) == (40,)
    assert set(shapes) == {333, 199, 10, 30, 40, 50}


def test_none_where_that_would_not_pay_or_no_number_does(shapes: list[int]) -> None:
    assert Excerpts().rows(159, WEIGHT) == ()
    assert Excerpts().rows(39, WEIGHT) == ()
    assert set(shapes) == {159, 10, 30, 39}


def test_the_numbers_of_columns_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        made = linear(rows.double(), weight.double())
        return (made * (1 + 2**-12) if len(weight) < 8 else made).bfloat16()

    monkeypatch.setattr(excerpts, "product", product)
    monkeypatch.setattr(excerpts, "_COLUMNS", (4, 8, 12, 16))
    assert Excerpts().columns(50, WEIGHT) == (8, 12)


def test_none_where_memory_does_not_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(excerpts, "product", full)
    assert Excerpts().rows(2048, WEIGHT) == () == Excerpts().columns(2048, WEIGHT)


@pytest.mark.parametrize("place", [0, 17, 198])
def test_a_row_with_other_bits_at_one_place_is_found(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked about once for each shape."""
    asked = []

    def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        made = linear(rows.double(), weight.double())
        asked.append(len(rows))
        if len(rows) == 199:
            made[place] *= 1 + 2**-9
        return made.bfloat16()

    monkeypatch.setattr(excerpts, "product", product)
    monkeypatch.setattr(excerpts, "portable", lambda device: True)
    one = Excerpts()
    assert [one.anywhere(count, WEIGHT) for count in (198, 199, 200, 199)] == [True, False, True, False]
    assert set(asked) == {198, 199, 200} and len(asked) <= 9


def test_the_bits_of_a_real_product() -> None:
    """And nobody's random numbers are used up."""
    state = torch.get_rng_state()
    count, weight = 2048, torch.zeros(48, 128, dtype=torch.bfloat16)
    sizes = Excerpts().rows(count, weight)
    assert torch.equal(torch.get_rng_state(), state)
    rows, other = torch.randn(count, 128).bfloat16(), torch.randn(48, 128).bfloat16()
    whole = linear(rows, other)
    for size in sizes:
        some = torch.randperm(count)[:size]
        assert torch.equal(linear(rows[some], other), whole[some])
    assert set(sizes) <= set(excerpts._ROWS)
