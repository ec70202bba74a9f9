"""Numbers over positions, and their intervals over documents."""

import numpy as np
import pytest

from proofcard.evaluate.intervals import Estimate, Pooled, bootstrap


def pooled(values: np.ndarray, documents: int) -> Pooled:
    owner = np.repeat(np.arange(documents), len(values) // documents)
    return Pooled(values, owner, documents)


def test_quantiles_are_numpys_of_the_positions_drawn() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=120)
    found = pooled(values, 6)
    taken = np.array([2, 0, 1, 0, 3, 0])
    drawn = np.concatenate([np.tile(values[20 * d : 20 * d + 20], times) for d, times in enumerate(taken)])
    shares = [0.0, 0.01, 0.5, 0.95, 0.999, 1.0]
    assert found.quantiles(taken, shares).tolist() == [
        np.quantile(drawn, share, method="inverted_cdf") for share in shares
    ]
    assert found.mean(taken) == pytest.approx(drawn.mean())


def test_an_interval_is_over_documents_not_positions() -> None:
    """Positions of a document that are all alike say no more than one."""
    random = np.random.default_rng(2)
    of_documents = random.normal(size=40)
    once, often = pooled(of_documents, 40), pooled(np.repeat(of_documents, 50), 40)
    first, second = (bootstrap(lambda t, p=p: np.array([p.mean(t)]), 40, 500, 3)[0] for p in (once, often))
    assert second.low == pytest.approx(first.low) and second.high == pytest.approx(first.high)
    assert first.low is not None and first.high is not None
    assert first.high - first.low == pytest.approx(4 * of_documents.std() / 40**0.5, rel=0.2)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(4)
    inside = 0
    for trial in range(60):
        found = pooled(random.exponential(size=200), 50)
        estimate = bootstrap(lambda t, found=found: np.array([found.mean(t)]), 50, 200, trial)[0]
        assert estimate.low is not None and estimate.high is not None
        inside += estimate.low <= 1 <= estimate.high
    assert inside >= 50


def test_the_same_seed_gives_the_same_interval_and_one_document_none() -> None:
    found = pooled(np.arange(20.0), 10)
    statistic = lambda t: np.array([found.mean(t), 1.0])  # noqa: E731
    assert bootstrap(statistic, 10, 100, 5) == bootstrap(statistic, 10, 100, 5)
    alone = pooled(np.arange(2.0), 1)
    assert bootstrap(lambda t: np.array([alone.mean(t)]), 1, 100, 5) == [Estimate(0.5, None, None)]
