"""Uniform sampling: every row of a split is equally likely, however the split is divided into files.

Row `i` gets the `i`-th number of a SplitMix64 stream (Steele, Lea and Flood 2014) as its key. The rows with
the smallest keys are the sample, in the order of their keys; an unreadable row is replaced by the next. The
split is read once, in order, and only rows that may belong to the sample are decoded.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from proofcard.calibration.rows import UnreadableRow

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_LARGEST = 2**64 - 1


def splitmix64(seed: int, first: int, count: int) -> np.ndarray:
    """`count` numbers of a seed's SplitMix64 stream starting at `first`, uint64 [count], all distinct."""
    z = np.uint64(seed & _LARGEST) + np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def uniform(
    tables: Iterable[Any], wanted: int, seed: int, read: Callable[[dict[str, Any]], str], patience: int
) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Index and text of the sample's rows, and the reasons why rows before its last one were skipped.

    `tables` are pyarrow tables of consecutive rows. `read` returns a row's text or raises UnreadableRow.
    Gives up when the first `patience` rows that it tries are all unreadable.
    """
    chosen: list[tuple[int, int, str]] = []  # a heap of (-key, index, text): the largest key first
    refused: list[tuple[int, str]] = []
    seen = 0
    for table in tables:
        keys = splitmix64(seed, seen, len(table))
        largest = -chosen[0][0] if len(chosen) == wanted else _LARGEST
        for at in np.flatnonzero(keys <= np.uint64(largest)).tolist():
            key = int(keys[at])
            if len(chosen) == wanted and key > -chosen[0][0]:
                continue
            try:
                candidate = (-key, seen + at, read(table.slice(at, 1).to_pylist()[0]))
            except UnreadableRow as reason:
                refused.append((key, str(reason)))
                continue
            if len(chosen) < wanted:
                heapq.heappush(chosen, candidate)
            else:
                heapq.heapreplace(chosen, candidate)
        seen += len(table)
        if not chosen and len(refused) >= patience:
            break
    last = -chosen[0][0] if len(chosen) == wanted else _LARGEST
    in_order = [(index, text) for _, index, text in sorted(chosen, reverse=True)]
    return in_order, Counter(reason for key, reason in refused if key <= last)
