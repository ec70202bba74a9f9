"""Work that is spread over the processors: results in order, and nothing begun that nobody waits for."""

import threading
import time
from pathlib import Path

import pytest

from proofcard import cores, progress
from proofcard.digest import file_table, sha256_file


def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 4)

    def late(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    assert list(cores.side_by_side(late, range(9))) == [number * number for number in range(9)]


def test_what_has_not_begun_is_left_out_when_the_caller_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 2)
    begun, going_on = [], threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            going_on.wait(5)
        return number

    results = cores.side_by_side(work, range(50))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    going_on.set()
    assert len(begun) <= 4


def test_an_error_is_raised_where_its_result_would_be() -> None:
    results = cores.side_by_side(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_files_are_hashed_with_a_bar_where_there_is_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 1000)
    table = file_table(tmp_path, tmp_path.iterdir())
    assert list(table) == [f"{number}.bin" for number in range(5)]
    assert all(
        entry == {"size": 1000, "sha256": sha256_file(tmp_path / name)} for name, entry in table.items()
    )
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_WORTH_A_BAR", 4999)
    assert file_table(tmp_path, tmp_path.iterdir()) == table
    assert "hashing: 5/5 files" in capsys.readouterr().err
