"""From requests to a point: one number of users at one start of the server, or over all; and its doubts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from proofcard.benchmark.load import Request
from proofcard.config.benchmarking import Benchmark, Published

CLIENT_LIMIT = 0.02  # the share of a point that may be the client's
_UNEVEN = 0.05  # of aggregate, by which users × per user may miss it: the last requests of a level run alone
_ALONE = 4  # times that, for one answer alone
_SHORT = {True: 0.01, False: 0.05}  # of the length asked for: as the server counts, as a tokenizer does

Point = dict[str, Any]


def point(users: int, requests: list[Request]) -> Point:
    """The figures of one level at one server start, as JSON values.

    `tokens_per_s` is every token of an answer over the seconds from the first request to the last token;
    `tokens_per_s_user` is every token over the seconds that users have waited, the server's queue included.
    Failed requests count in `failed` only.
    """
    good = [request for request in requests if request.error is None]
    failed = [request.error for request in requests if request.error is not None]
    found: Point = {"users": users, "requests": len(requests), "failed": len(failed)}
    if failed:
        found["first_failure"] = failed[0]
    if not good:
        return found
    tokens = sum(request.tokens for request in good)
    found["tokens_per_s"] = tokens / (max(each.end for each in good) - min(each.start for each in good))
    found["tokens_per_s_user"] = tokens / sum(request.latency for request in good)
    found["tokens_an_answer"] = tokens / len(good)
    found["tokens_fewest"] = float(min(request.tokens for request in good))
    found["tokens_most"] = float(max(request.tokens for request in good))
    found["tokens_a_prompt"] = sum(request.input_tokens for request in good) / len(good)
    spread = {
        "first_ms": [1000 * request.first for request in good],
        "each_ms": [1000 * request.each for request in good],
        "request_s": [request.latency for request in good],
    }
    for name, values in spread.items():
        found[f"{name}_mean"] = float(np.mean(values))
        for share in (50, 90, 99):
            found[f"{name}_p{share}"] = float(np.percentile(values, share))
    return found


def over_starts(points: list[Point]) -> Point:
    """Points of one level: each figure as its `mean`, `least` and `most` over the starts, counts as sums."""
    whole: Point = {"users": points[0]["users"], "starts": len(points)}
    for name in ("requests", "failed"):
        whole[name] = sum(each[name] for each in points)
    for each in points:
        if "first_failure" in each:
            whole.setdefault("first_failure", each["first_failure"])
    numbers = {name: [each[name] for each in points if name in each] for name in _figures(points)}
    for name, values in numbers.items():
        whole[name] = {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}
    return whole


def _figures(points: Iterable[Point]) -> list[str]:
    return list(
        dict.fromkeys(name for each in points for name, value in each.items() if type(value) is float)
    )


def mean(whole: Point, name: str) -> float | None:
    """A figure's mean over the starts, if there is one."""
    return whole[name]["mean"] if name in whole else None


def doubts(whole: Point, benchmark: Benchmark, usage: bool) -> list[str]:
    """What keeps a level's figures from being taken at their word; `usage`: the server counted the tokens."""
    users, said = whole["users"], []
    if whole["failed"]:
        said.append(
            f"{whole['failed']} of {whole['requests']} requests failed, the first with: "
            f"{whole['first_failure']}"
        )
    answer = mean(whole, "tokens_an_answer")
    if answer is None:
        return said
    if abs(answer / benchmark.output_tokens - 1) > _SHORT[usage]:
        said.append(
            f"answers were {answer:.1f} tokens long on average, {benchmark.output_tokens} were asked for"
        )
    elif "tokens_most" in whole:
        fewest, most = whole["tokens_fewest"]["least"], whole["tokens_most"]["most"]
        off = max(1 - fewest / benchmark.output_tokens, most / benchmark.output_tokens - 1)
        if off > _ALONE * _SHORT[usage]:
            said.append(
                f"answers were {fewest:.0f} to {most:.0f} tokens long, "
                f"{benchmark.output_tokens} were asked for"
            )
    if said_so := uneven(users, whole["tokens_per_s"]["mean"], whole["tokens_per_s_user"]["mean"]):
        said.append(f"{said_so}; users were idle between requests, or at the end")
    if whole["each_ms_mean"]["mean"] == 0:
        said.append("answers came in one piece: nothing is known of the time between tokens")
    client = whole.get("client")
    if client is not None and client["share"] >= CLIENT_LIMIT:
        said.append(f"{100 * client['share']:.1f}% of it is the client's, not the server's")
    return said


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
