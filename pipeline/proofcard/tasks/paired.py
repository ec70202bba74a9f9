"""What the scores of two models on the same questions say: differences, their intervals, and a verdict.

Pure functions of numbers. Scores are of 1; where a question was asked several times, its score is the mean.
The test and the bootstrap are scipy's. docs/evaluation-tasks.md derives every formula.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Verdict = Literal["ACCEPT", "REGRESSION", "INCONCLUSIVE"]
_BATCH = 1 << 22  # numbers of one batch of resamples: 32 MB


class Interval(NamedTuple):
    """A number and the interval that it lies in with the confidence asked for."""

    value: float
    low: float
    high: float


def score(scores: Sequence[float], confidence: float) -> Interval:
    """The mean score with Wilson's interval (1927), n being the number of questions.

    Scores between 0 and 1 have no larger variance than p(1 − p), so for means of repeats it is conservative.
    """
    n, p = len(scores), math.fsum(scores) / len(scores)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def difference(
    reference: Sequence[float], candidate: Sequence[float], confidence: float, resamples: int, seed: int
) -> Interval:
    """Candidate minus reference, with the percentile interval of a bootstrap over questions.

    Each resample draws from the pairs and two more, one question lost and one gained (Bonett and Price 2012
    add the same to their table): without them a run without flips would have an interval without width.
    """
    mean = float(np.mean(np.subtract(candidate, reference)))
    pairs = (np.array([*reference, 1.0, 0.0]), np.array([*candidate, 0.0, 1.0]))
    drawn = stats.bootstrap(
        pairs,
        lambda a, b, axis: np.mean(b - a, axis=axis),
        paired=True, vectorized=True, confidence_level=confidence, n_resamples=resamples,
        batch=max(1, _BATCH // len(pairs[0])), method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(mean, min(float(drawn.low), mean), max(float(drawn.high), mean))


def recovery(reference: float, change: Interval) -> Interval | None:
    """The candidate's score as a share of the reference's; None where that is 0.

    Its interval is that of the difference over the reference's score, which is taken as it was measured.
    """
    if reference == 0:
        return None
    return Interval(*(1 + each / reference for each in change))


def flips(reference: Sequence[float], candidate: Sequence[float]) -> tuple[int, int]:
    """How many questions have a lower score than before, and how many a higher one."""
    pairs = list(zip(reference, candidate, strict=True))
    return sum(b < a for a, b in pairs), sum(b > a for a, b in pairs)


def mcnemar(lost: int, gained: int) -> float:
    """The two-sided p of the exact McNemar test: are losses as frequent as gains?

    For questions that were asked several times this is the sign test over questions, which it is a case of.
    """
    return float(stats.binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0


def detectable(
    reference: Sequence[float], candidate: Sequence[float], confidence: float, power: float
) -> float:
    """The smallest true difference that so many questions would have shown with this power.

    (z of the confidence + z of the power) times the standard error of the mean difference, whose variance is
    that of the pairs and the two that `difference` adds.
    """
    change = np.append(np.subtract(candidate, reference), [-1.0, 1.0])
    error = float(np.std(change)) / math.sqrt(len(reference))
    return float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)) * error


def verdict(change: Interval, margin: float) -> Verdict:
    """ACCEPT when the loss is certainly no more than the margin, REGRESSION when it is certainly more."""
    if change.low >= -margin:
        return "ACCEPT"
    return "REGRESSION" if change.high < -margin else "INCONCLUSIVE"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """That of all tasks together: the worst, a regression before what is not decided."""
    for each in ("REGRESSION", "INCONCLUSIVE"):
        if each in verdicts:
            return each
    return "ACCEPT"
