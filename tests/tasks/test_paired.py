"""The statistics, against scipy's own, closed forms and what is known of them."""

import math
import random

import pytest
from scipy import stats

from proofcard.tasks import paired
from proofcard.tasks.paired import Interval


def shares(n: int, lost: int, gained: int, both: int) -> tuple[list[float], list[float]]:
    """Scores of n questions: so many lost, gained, and right twice."""
    reference = [1.0] * (lost + both) + [0.0] * (n - lost - both)
    candidate = [0.0] * lost + [1.0] * both + [1.0] * gained + [0.0] * (n - lost - both - gained)
    return reference, candidate


def change(reference: list[float], candidate: list[float], seed: int = 1) -> Interval:
    return paired.difference(reference, candidate, 0.95, 999, seed)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 30), (29, 30), (99, 198), (200, 200)])
def test_the_interval_of_a_score_is_wilsons(right: int, n: int) -> None:
    found = paired.score([1.0] * right + [0.0] * (n - right), 0.95)
    known = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert found == pytest.approx((right / n, known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(10, 2, 79 / 2048), (5, 5, 1.0), (0, 0, 1.0), (6, 0, 1 / 32)]
)
def test_mcnemar_is_exact(lost: int, gained: int, p: float) -> None:
    assert paired.mcnemar(lost, gained) == pytest.approx(p)
    assert paired.mcnemar(gained, lost) == pytest.approx(p)


def test_flips_are_counted_both_ways_also_of_repeated_questions() -> None:
    assert paired.flips([1, 0, 1, 0.5, 0.25], [0, 1, 1, 0.25, 0.5]) == (2, 2)


def test_the_difference_is_that_of_the_means_and_lies_in_its_interval() -> None:
    reference, candidate = shares(200, lost=12, gained=4, both=120)
    found = change(reference, candidate)
    assert found.value == pytest.approx(-0.04)
    assert found.low < -0.04 < found.high < 0.01
    mirrored = change(candidate, reference)
    assert mirrored.value == -found.value and mirrored.low == pytest.approx(-found.high, abs=0.012)


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly() -> None:
    scores = shares(150, 9, 5, 80)
    assert change(*scores) == change(*scores)
    assert change(*scores, seed=2) == pytest.approx(change(*scores), abs=0.02)


@pytest.mark.parametrize("n", [20, 100, 400])
def test_no_flips_are_no_proof_of_no_loss(n: int) -> None:
    """With n questions and none lost, the true share of losses may be as large as 3 / n (95%)."""
    found = change(*shares(n, 0, 0, n // 2))
    assert found.value == 0
    assert 2 / n < -found.low < 5 / n and 2 / n < found.high < 5 / n


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    draw, held, trials = random.Random(5), 0, 200
    for _ in range(trials):
        kinds = draw.choices(((1, 0), (0, 1), (1, 1)), (0.08, 0.03, 0.89), k=120)
        found = paired.difference([a for a, _ in kinds], [b for _, b in kinds], 0.95, 299, 3)
        held += found.low <= -0.05 <= found.high
    assert held / trials > 0.91


def test_the_detectable_effect_shrinks_with_the_root_of_the_questions() -> None:
    few, many = (paired.detectable(*shares(n, n // 10, n // 10, n // 2), 0.95, 0.8) for n in (100, 10_000))
    z = 1.959964 + 0.841621
    assert many == pytest.approx(z * math.sqrt(0.2) / 100, rel=1e-3)
    assert few == pytest.approx(10 * many, rel=0.05)


def test_an_effect_of_the_detectable_size_is_found_with_that_power() -> None:
    draw, found, trials = random.Random(7), 0, 300
    losses = paired.detectable(*shares(200, 16, 4, 150), 0.95, 0.8)
    for _ in range(trials):
        kinds = draw.choices((-1, 1, 0), (0.02 + losses, 0.02, 0.96 - losses), k=200)
        mean = sum(kinds) / 200
        error = math.sqrt(sum((each - mean) ** 2 for each in kinds)) / 200
        found += mean + 1.96 * error < 0
    assert 0.7 < found / trials < 0.95


def test_recovery_is_a_share_of_the_reference() -> None:
    found = paired.recovery(0.8, Interval(-0.04, -0.08, 0.02))
    assert found is not None and found == pytest.approx((0.95, 0.9, 1.025))
    assert paired.recovery(0.0, Interval(0.1, 0.0, 0.2)) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.005, 0.01, "ACCEPT"),
        (-0.01, 0.01, "ACCEPT"),
        (-0.02, 0.01, "INCONCLUSIVE"),
        (-0.02, -0.005, "INCONCLUSIVE"),
        (-0.05, -0.011, "REGRESSION"),
    ],
)
def test_the_verdict_is_that_of_the_interval_beside_the_margin(low: float, high: float, verdict: str) -> None:
    assert paired.verdict(Interval((low + high) / 2, low, high), 0.01) == verdict


def test_the_worst_verdict_is_that_of_all() -> None:
    assert paired.overall(["ACCEPT", "ACCEPT"]) == "ACCEPT"
    assert paired.overall(["ACCEPT", "INCONCLUSIVE"]) == "INCONCLUSIVE"
    assert paired.overall(["INCONCLUSIVE", "REGRESSION", "ACCEPT"]) == "REGRESSION"
