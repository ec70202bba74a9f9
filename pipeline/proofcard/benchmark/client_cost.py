"""What the client itself costs: the same load on an endpoint without a model, whose pace is known.

The null endpoint answers each level at the pace that was measured there. Whatever is slower than that pace is
the client's (and the null endpoint's, and the network's on loopback): an upper bound of what the client adds.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofcard import children
from proofcard.benchmark import null_endpoint
from proofcard.benchmark.null_endpoint import Pace
from proofcard.config.benchmarking import Benchmark
from proofcard.documents.benchmark import ClientShare, Level, Point
from proofcard.serve.endpoint import Endpoint


def paces(benchmark: Benchmark, levels: list[Level]) -> list[Pace]:
    """The pace of each level as it was measured, for as many requests as the level has, warm-up included."""
    found = []
    for level in levels:
        users = level.users
        first, each = level.mean("first_ms_mean"), level.mean("each_ms_mean")
        assert first is not None and each is not None
        sent = benchmark.warmup_waves * users + benchmark.requests(users)
        found.append(Pace(sent, first / 1000, each / 1000))
    return found


@contextmanager
def null(paces: list[Pace], tokenizer: Path) -> Iterator[Endpoint]:
    """A null endpoint in a process of its own, gone afterwards, and with us."""
    words = [f"{pace.requests}:{1000 * pace.first_s!r}:{1000 * pace.each_s!r}" for pace in paces]
    argv = children.python("-m", null_endpoint.__name__, *words)
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=children.environment(),
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            yield Endpoint(url, null_endpoint.MODEL, None, tokenizer, "null", process.pid, Path(os.devnull))
        finally:
            process.kill()


def share(users: int, pace: Pace, tokens: int, seen: Point) -> ClientShare:
    """How far a level on the null endpoint missed its pace.

    How much longer a request and the time between two tokens were than they were meant to be, and how much of
    the throughput was missing.
    """
    assert seen.request_s_mean is not None and seen.each_ms_mean is not None
    assert seen.tokens_per_s is not None and seen.first_ms_mean is not None
    meant_s = pace.first_s + (tokens - 1) * pace.each_s
    latency = seen.request_s_mean / meant_s - 1
    # a server that sends an answer in one piece has no time between tokens to be held against
    each = seen.each_ms_mean / (1000 * pace.each_s) - 1 if pace.each_s else 0.0
    throughput = 1 - seen.tokens_per_s * meant_s / (users * tokens)
    return ClientShare(
        users=users,
        share=max(0.0, latency, each, throughput),
        latency=latency,
        each=each,
        throughput=throughput,
        first_ms=seen.first_ms_mean - 1000 * pace.first_s,
    )
