"""Turns requests into points (one number of users, at one start of the server or over all) with doubts."""

from typing import TYPE_CHECKING, Any

import numpy as np

from proofcard.config.benchmarking import Benchmark, Published
from proofcard.documents.benchmark import FIGURES, ClientShare, Level, Point, Spread

if TYPE_CHECKING:  # a card shows points without what asking servers needs
    from proofcard.benchmark.load import Request

CLIENT_LIMIT = 0.02  # acceptable share of the client in a point
_UNEVEN = 0.05  # acceptable relative gap between users × per user and aggregate: the last requests run alone
_ALONE = 4  # times that limit for a single answer
_SHORT = {True: 0.01, False: 0.05}  # of the requested length: counted by the server, by a tokenizer


def point(users: int, requests: "list[Request]", seen: dict[str, Any] | None = None) -> Point:
    """The figures of one level at one server start, with the machine's figures in `seen`.

    `tokens_per_s` is every token of an answer over the seconds from the first request to the last token;
    `tokens_per_s_user` is every token over the seconds that users have waited, the server's queue included.
    Failed requests count in `failed` only.
    """
    good = [request for request in requests if request.error is None]
    failed = [request.error for request in requests if request.error is not None]
    counts: dict[str, Any] = {"users": users, "requests": len(requests), "failed": len(failed)}
    first_failure = failed[0] if failed else None
    return Point(**counts, first_failure=first_failure, **_figures(good), **seen or {})


def _figures(good: "list[Request]") -> dict[str, Any]:
    """Throughput, lengths and latencies of the answered requests."""
    if not good:
        return {}
    tokens = sum(request.tokens for request in good)
    figures = {
        "tokens_per_s": tokens / (max(each.end for each in good) - min(each.start for each in good)),
        "tokens_per_s_user": tokens / sum(request.latency for request in good),
        "tokens_an_answer": tokens / len(good),
        "tokens_fewest": float(min(request.tokens for request in good)),
        "tokens_most": float(max(request.tokens for request in good)),
        "tokens_a_prompt": sum(request.input_tokens for request in good) / len(good),
    }
    spread = {
        "first_ms": [1000 * request.first for request in good],
        "each_ms": [1000 * request.each for request in good],
        "request_s": [request.latency for request in good],
    }
    for name, values in spread.items():
        figures[f"{name}_mean"] = float(np.mean(values))
        for share in (50, 90, 99):
            figures[f"{name}_p{share}"] = float(np.percentile(values, share))
    return figures


def over_starts(points: list[Point], client: ClientShare | None = None) -> Level:
    """Combine a level's points: each figure as `mean`, `least` and `most` over the starts, counts as sums."""
    spreads: dict[str, Any] = {}
    for name in FIGURES:
        values = [value for each in points if (value := getattr(each, name)) is not None]
        if values:
            mean = sum(values) / len(values)
            spreads[name] = Spread(mean=mean, least=min(values), most=max(values))
    failures = [each.first_failure for each in points if each.first_failure is not None]
    return Level(
        users=points[0].users,
        starts=len(points),
        requests=sum(each.requests for each in points),
        failed=sum(each.failed for each in points),
        first_failure=failures[0] if failures else None,
        client=client,
        **spreads,
    )


def doubts(level: Level, benchmark: Benchmark, usage: bool) -> list[str]:
    """Reasons to doubt a level's figures; `usage`: the server counted the tokens."""
    reasons = []
    if level.failed:
        reasons.append(
            f"{level.failed} of {level.requests} requests failed, the first with: {level.first_failure}"
        )
    if level.tokens_per_s is None or level.tokens_per_s_user is None:
        return reasons
    reasons += _lengths(level, benchmark, usage)
    if said_so := uneven(level.users, level.tokens_per_s.mean, level.tokens_per_s_user.mean):
        reasons.append(f"{said_so}; users were idle between requests, or at the end")
    if level.mean("each_ms_mean") == 0:
        reasons.append("answers arrived in one piece: the inter-token latency is unknown")
    if level.client is not None and level.client.share >= CLIENT_LIMIT:
        reasons.append(f"{100 * level.client.share:.1f}% of the time is the client's, not the server's")
    return reasons


def _lengths(level: Level, benchmark: Benchmark, usage: bool) -> list[str]:
    """Doubts about the lengths of answers, on average and individually."""
    requested, limit, answer = benchmark.output_tokens, _SHORT[usage], level.mean("tokens_an_answer")
    if answer is None:
        return []
    if abs(answer / requested - 1) > limit:
        return [f"answers were {answer:.1f} tokens long on average instead of {requested}"]
    if level.tokens_fewest is None or level.tokens_most is None:
        return []
    fewest, most = level.tokens_fewest.least, level.tokens_most.most
    if max(1 - fewest / requested, most / requested - 1) > _ALONE * limit:
        return [f"answers were {fewest:.0f} to {most:.0f} tokens long instead of {requested}"]
    return []


def uneven(users: int, aggregate: float, per_user: float, unit: float = 0.0) -> str | None:
    """Says if users × per user differs from the aggregate; `unit` is that of the last printed digit."""
    together = users * per_user
    if abs(together - aggregate) <= _UNEVEN * aggregate + unit / 2 * (users + 1):
        return None
    return f"{users} × {_short(per_user)} tokens/s per user is {_short(together)}, not {_short(aggregate)}"


def impossible(published: Published) -> dict[int, str]:
    """Inconsistent rows of a published table, each with the reason."""
    rows = {}
    for users, per_user in published.per_user.items():
        if reasons := uneven(users, published.aggregate[users], per_user, unit=1.0):
            if published.most_running is not None and users > published.most_running:
                reasons += (
                    f"; with at most {published.most_running} requests running the others wait, "
                    "and time in the queue seems to be left out"
                )
            rows[users] = reasons
    return rows


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"
