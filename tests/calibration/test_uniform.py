"""Uniform sampling: every row equally likely, the same rows however the split is cut into files."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from proofcard.calibration.rows import UnreadableRow
from proofcard.calibration.sampling import choose
from proofcard.calibration.sources import streams
from proofcard.calibration.uniform import splitmix64, uniform
from proofcard.config.schema import Dataset, Sampling

ROWS = [{"text": f"row {n} " + "word " * (n % 9)} for n in range(600)]


def read(row: dict[str, str]) -> str:
    if "13" in row["text"]:
        raise UnreadableRow("unlucky")
    return row["text"]


def chosen(table: pa.Table, wanted: int, seed: int) -> list[int]:
    return [index for index, _ in uniform([table], wanted, seed, lambda row: row["text"], 1000)[0]]


def test_the_keys_are_the_published_generator_s() -> None:
    # The first five numbers for the seed 1234567, as implementations in other languages print them.
    assert splitmix64(1234567, 0, 5).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip
    assert splitmix64(1234567, 3, 2).tolist() == splitmix64(1234567, 0, 5).tolist()[3:]


def test_it_takes_the_rows_of_the_smallest_keys_in_their_order() -> None:
    keys = splitmix64(42, 0, 600)
    usable = [n for n in np.argsort(keys).tolist() if "13" not in ROWS[n]["text"]]
    tables = [pa.Table.from_pylist(ROWS[first : first + 70]) for first in range(0, 600, 70)]
    found, skipped = uniform(tables, 50, 42, read, 1000)
    assert [index for index, _ in found] == usable[:50]
    assert [text for _, text in found] == [ROWS[n]["text"] for n in usable[:50]]
    before = [n for n in range(600) if keys[n] < keys[usable[49]]]
    assert skipped.total() == len(before) - 49
    everything, _ = uniform(tables, 600, 42, read, 1000)
    assert [index for index, _ in everything] == usable


def test_every_row_and_every_pair_of_rows_comes_as_often_as_another() -> None:
    table = pa.table({"text": [str(n) for n in range(6)]})
    rounds, pairs = 6000, {}
    for seed in range(rounds):
        pair = tuple(chosen(table, 2, seed))
        pairs[pair] = pairs.get(pair, 0) + 1
    assert len(pairs) == 30
    expected = rounds / 30
    # Each count is binomial: five standard deviations are one in 60,000 for all thirty together.
    bound = 5 * (expected * (1 - 1 / 30)) ** 0.5
    assert all(abs(count - expected) < bound for count in pairs.values())


def test_more_rows_and_another_sample_size_change_as_little_as_they_can() -> None:
    one = chosen(pa.Table.from_pylist(ROWS), 50, 7)
    assert chosen(pa.Table.from_pylist(ROWS), 51, 7)[:50] == one
    grown = chosen(pa.Table.from_pylist(ROWS[:500]), 50, 7)
    assert [n for n in one if n < 500] == grown[: len([n for n in one if n < 500])]


@pytest.mark.parametrize("files", [1, 2, 7])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_where_the_files_are_cut_decides_nothing(tmp_path: Path, files: int, kind: str) -> None:
    import pyarrow.parquet as pq

    cuts = [600 * n // files + (n * n) % 5 for n in range(files)] + [600]
    for n, (first, last) in enumerate(pairwise(cuts)):
        path = tmp_path / f"train-{n:05}-of-{files:05}.{kind}"
        if kind == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[first:last]))
        else:
            pq.write_table(pa.Table.from_pylist(ROWS[first:last]), path, row_group_size=33)
    dataset = Dataset(
        adapter="text", repository="local", revision=None, subset=None, splits=("train",), path=tmp_path,
        samples=50,
    )  # fmt: skip
    for seed in (42, 43):
        sampling = Sampling(method="uniform", seed=seed, buffer_size=1)
        found, skipped = choose(streams("text", dataset)["train"], 50, sampling, read)
        assert (found, skipped) == uniform([pa.Table.from_pylist(ROWS)], 50, seed, read, 1000)
