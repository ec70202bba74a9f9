"""Numbers over positions with 95% intervals from a bootstrap over documents.

Positions of one text are not independent, so whole documents are drawn, with replacement and as many as
there are (scipy.stats.bootstrap, percentile method, a seed of its own). Of a drawn set each number is
what it is of the whole: means over all its positions, quantiles of all its positions. A quantile is the
smallest value that is not below so many of them (the inverse of the empirical distribution function), so
drawing a document twice counts it twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

Values = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Values]
"""Numbers [numbers] of documents, each taken so often: int64 [documents]."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; both ends None where one document, or none, leaves nothing to draw."""

    value: float
    low: float | None
    high: float | None


def bootstrap(statistic: Statistic, documents: int, resamples: int, seed: int) -> list[Estimate]:
    """Each number of `statistic` over all documents, and its interval over drawn ones."""
    whole = statistic(np.ones(documents, np.int64))
    if documents < 2:
        return [Estimate(float(value), None, None) for value in whole]
    from scipy import stats

    def of_drawn(drawn: NDArray[np.int64], axis: int) -> Values:
        """`drawn` [..., documents] numbers of documents; numbers come first: [numbers, ...]."""
        rows = np.moveaxis(np.asarray(drawn), axis, -1).reshape(-1, documents)
        made = np.stack([statistic(np.bincount(row, minlength=documents)) for row in rows], axis=-1)
        return made.reshape(len(whole), *np.asarray(drawn).shape[:-1])

    interval = stats.bootstrap(
        (np.arange(documents),),
        of_drawn,
        n_resamples=resamples,
        batch=100,
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [
        Estimate(float(value), float(low), float(high))
        for value, low, high in zip(whole, interval.low, interval.high, strict=True)
    ]


class Pooled:
    """Values of all positions, each with the document that it is in."""

    def __init__(self, values: Values, document: NDArray[np.int64], documents: int) -> None:
        """`values` and `document` [positions]."""
        order = np.argsort(values, kind="stable")
        self._sorted, self._owner = values[order], document[order]
        # Within a document in the order of its positions: the same sums whatever stands around it.
        self.sums = np.bincount(document, values, minlength=documents)
        self.counts = np.bincount(document, minlength=documents)

    def mean(self, taken: NDArray[np.int64]) -> float:
        """The mean over all positions of the documents taken."""
        return float((self.sums * taken).sum() / (self.counts * taken).sum())

    def quantiles(self, taken: NDArray[np.int64], shares: Sequence[float]) -> Values:
        """The smallest values that are not below these shares of all positions of the documents taken."""
        below = np.cumsum(taken[self._owner])
        wanted = np.ceil(np.asarray(shares) * below[-1]).clip(1, below[-1])
        return self._sorted[np.searchsorted(below, wanted)]
