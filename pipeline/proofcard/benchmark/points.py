"""From requests to a point: one number of users at one start of the server, or over all; and its doubts."""

from typing import TYPE_CHECKING, Any

import numpy as np

from proofcard.config.benchmarking import Benchmark, Published
from proofcard.documents.benchmark import FIGURES, ClientShare, Level, Point, Spread

if TYPE_CHECKING:  # a card shows points without what asking servers needs
    from proofcard.benchmark.load import Request

CLIENT_LIMIT = 0.02  # the share of a point that may be the client's
_UNEVEN = 0.05  # of aggregate, by which users × per user may miss it: the last requests of a level run alone
_ALONE = 4  # times that, for one answer alone
_SHORT = {True: 0.01, False: 0.05}  # of the length asked for: as the server counts, as a tokenizer does


def point(users: int, requests: "list[Request]", seen: dict[str, Any] | None = None) -> Point:
    """The figures of one level at one server start, with what the machine was `seen` to give.

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
    """Throughput, lengths and latencies of the requests that were answered."""
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
    """Points of one level: each figure as its `mean`, `least` and `most` over the starts, counts as sums."""
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
    """What keeps a level's figures from being taken at their word; `usage`: the server counted the tokens."""
    said = []
    if level.failed:
        said.append(
            f"{level.failed} of {level.requests} requests failed, the first with: {level.first_failure}"
        )
    if level.tokens_per_s is None or level.tokens_per_s_user is None:
        return said
    said += _lengths(level, benchmark, usage)
    if said_so := uneven(level.users, level.tokens_per_s.mean, level.tokens_per_s_user.mean):
        said.append(f"{said_so}; users were idle between requests, or at the end")
    if level.mean("each_ms_mean") == 0:
        said.append("answers came in one piece: nothing is known of the time between tokens")
    if level.client is not None and level.client.share >= CLIENT_LIMIT:
        said.append(f"{100 * level.client.share:.1f}% of it is the client's, not the server's")
    return said


def _lengths(level: Level, benchmark: Benchmark, usage: bool) -> list[str]:
    """Whether answers were as long as asked for, on average and each by itself."""
    asked, limit, answer = benchmark.output_tokens, _SHORT[usage], level.mean("tokens_an_answer")
    if answer is None:
        return []
    if abs(answer / asked - 1) > limit:
        return [f"answers were {answer:.1f} tokens long on average, {asked} were asked for"]
    if level.tokens_fewest is None or level.tokens_most is None:
        return []
    fewest, most = level.tokens_fewest.least, level.tokens_most.most
    if max(1 - fewest / asked, most / asked - 1) > _ALONE * limit:
        return [f"answers were {fewest:.0f} to {most:.0f} tokens long, {asked} were asked for"]
    return []


def uneven(users: int, aggregate: float, per_user: float, unit: float = 0.0) -> str | None:
    """Why users × per user is not the aggregate, if it is not; `unit` is that of the last digit printed."""
    together = users * per_user
    if abs(together - aggregate) <= _UNEVEN * aggregate + unit / 2 * (users + 1):
        return None
    return f"{users} × {_short(per_user)} tokens/s a user make {_short(together)}, not {_short(aggregate)}"


def impossible(published: Published) -> dict[int, str]:
    """Rows of a published table that contradict themselves, each with the reason."""
    found = {}
    for users, per_user in published.per_user.items():
        if said := uneven(users, published.aggregate[users], per_user, unit=1.0):
            if published.most_running is not None and users > published.most_running:
                said += (
                    f"; with at most {published.most_running} requests running the others wait, "
                    "and time in the queue seems to be left out"
                )
            found[users] = said
    return found


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"
