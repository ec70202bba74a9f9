"""Quantities as people read them."""

import pytest

from proofcard.units import counted, duration, many, operations, size


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (999_950, "1.0 MB"),
     (134_300_000_000, "134.3 GB"), (4_914_264, "4.9 MB"), (2 * 10**12, "2.0 TB")],
)  # fmt: skip
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert size(count) == text


def test_one_is_one_and_two_are_more() -> None:
    assert [counted(n, "file") for n in (0, 1, 2, 1234)] == ["0 files", "1 file", "2 files", "1,234 files"]
    assert counted(2, "entry", "entries") == "2 entries"


def test_numbers_have_names() -> None:
    assert [many(n) for n in (12, 196_608, 1_570_000, 228.7e9)] == [
        "12", "196,608", "1.57 million", "228.70 billion",
    ]  # fmt: skip


def test_no_time_is_zero_hours() -> None:
    assert [duration(h) for h in (3.25, 0.5, 0.01, 1e-4, 1e-9, 0)] == [
        "3.2 h", "30.0 min", "36.0 s", "0.4 s", "under 0.1 s", "0.0 s",
    ]  # fmt: skip


def test_work_has_a_prefix() -> None:
    assert [operations(n) for n in (5, 3.85e10, 1.16e13, 6.3e18)] == [
        "5 FLOP", "38.5 GFLOP", "11.6 TFLOP", "6.3 EFLOP",
    ]  # fmt: skip
