import pytest

from proofcard.benchmark import client_cost, points, results
from proofcard.benchmark.load import Request, _request
from proofcard.benchmark.null_endpoint import Pace
from proofcard.config import compose
from proofcard.config.benchmarking import Benchmark, BenchmarkConfig
from proofcard.documents.benchmark import ClientShare
from proofcard.errors import Usage


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    words = ["endpoint=http://127.0.0.1:1/v1", "tokenizer=x", "benchmark.output_tokens=100"]
    return compose(BenchmarkConfig, "benchmark", words).benchmark


def answered(start: float, latency: float, users: int = 2, tokens: int = 100) -> Request:
    first = latency / 10
    return Request(users, start, latency, first, (latency - first) / (tokens - 1), tokens, 50, None)


def costing(share: float) -> ClientShare:
    return ClientShare(users=1, share=share, latency=share, each=0.0, throughput=0.0, first_ms=0.0)


def failed(start: float) -> Request:
    return Request(2, start, 0.1, 0, 0, 0, 0, "TimeoutError: too slow")


def test_two_busy_users_give_twice_what_one_of_them_gets() -> None:
    found = points.point(2, [answered(10, 2), answered(10, 2), answered(12, 2), answered(12, 2)])
    assert found.tokens_per_s == pytest.approx(100)
    assert found.tokens_per_s_user == pytest.approx(50)
    assert found.request_s_p50 == pytest.approx(2)
    assert found.first_ms_p99 == pytest.approx(200)
    assert found.failed == 0


def test_a_failed_request_is_counted_and_doubted_and_enters_no_figure(benchmark: Benchmark) -> None:
    found = points.point(2, [answered(0, 2), answered(0, 2), failed(2), failed(2)])
    assert (found.requests, found.failed) == (4, 2)
    assert found.tokens_per_s == pytest.approx(100)
    said = points.doubts(points.over_starts([found]), benchmark, usage=True)
    assert said == ["2 of 4 requests failed, the first with: TimeoutError: too slow"]


def test_a_level_of_which_nothing_came_has_no_figures_and_says_why(benchmark: Benchmark) -> None:
    found = points.over_starts([points.point(2, [failed(0), failed(1)])])
    assert found.tokens_per_s is None and found.figures() == {}
    assert len(points.doubts(found, benchmark, usage=True)) == 1


def test_figures_of_several_starts_keep_their_spread() -> None:
    starts = [points.point(1, [answered(0, seconds, users=1)]) for seconds in (1, 2, 4)]
    found = points.over_starts(starts)
    assert found.starts == 3
    spread = found.tokens_per_s
    assert spread is not None
    assert (spread.mean, spread.least, spread.most) == (pytest.approx(175 / 3), 25, 100)


def test_idle_users_short_answers_and_a_slow_client_are_doubted(benchmark: Benchmark) -> None:
    idle = points.over_starts([points.point(2, [answered(0, 2), answered(3, 2)])])
    assert "2 × 50 tokens/s a user make 100, not 40" in points.doubts(idle, benchmark, usage=True)[0]
    short = points.over_starts([points.point(1, [answered(0, 2, tokens=97)])])
    assert "97.0 tokens long on average, 100 were asked" in points.doubts(short, benchmark, usage=True)[0]
    assert points.doubts(short, benchmark, usage=False) == []  # counted by the tokenizer
    sound = points.point(1, [answered(0, 2)])
    assert points.doubts(points.over_starts([sound], costing(0.019)), benchmark, usage=True) == []
    assert "2.5%" in points.doubts(points.over_starts([sound], costing(0.025)), benchmark, usage=True)[0]


def test_an_answer_in_one_piece_is_doubted_and_the_client_measured_all_the_same(benchmark: Benchmark) -> None:
    found = points.point(1, [Request(1, 0, 2.0, 2.0, 0, 100, 50, None)])
    (said,) = points.doubts(points.over_starts([found]), benchmark, usage=True)
    assert said.startswith("answers came in one piece")
    cost = client_cost.share(1, Pace(1, 2.0, 0.0), 100, found.model_copy(update={"request_s_mean": 2.02}))
    assert (cost.share, cost.each) == (pytest.approx(0.01), 0)


def test_two_rows_of_the_card_cannot_be_right_and_the_queue_explains_them() -> None:
    card, other = results.published(("card", "rtx6kpro"))
    wrong = points.impossible(card)
    assert list(wrong) == [32, 64]
    assert wrong[32].startswith("32 × 28 tokens/s a user make 896, not 590; with at most 16 requests running")
    assert wrong[64].startswith("64 × 21 tokens/s a user make 1344, not 631")
    assert points.impossible(other) == {}


def test_a_series_that_nobody_has_published_is_refused() -> None:
    with pytest.raises(Usage, match="there are card, rtx6kpro"):
        results.published(("cart",))


def test_a_failed_request_as_aiperf_records_it() -> None:
    about = {"phase_name": "users-8", "request_start_ns": 10**9, "request_end_ns": 3 * 10**9}
    error = {"type": "ClientConnectorError", "message": "Connect call failed", "cause_chain": []}
    found = _request({"metadata": about, "metrics": {}, "error": error}, 100)
    assert (found.users, found.start, found.end) == (8, 1, 3)
    assert found.error == "ClientConnectorError: Connect call failed"


def test_the_card_s_sweep_and_128_with_the_card_s_questions_and_numbers() -> None:
    words = ["endpoint=http://127.0.0.1:1/v1", "tokenizer=x", "benchmark=card"]
    config = compose(BenchmarkConfig, "benchmark", words)
    load = config.benchmark
    assert load.levels == (1, 4, 8, 16, 32, 64, 128)
    assert (load.output_tokens, load.restarts, load.beside) == (512, 3, ("card", "rtx6kpro"))
    assert [load.requests(users) for users in load.levels] == [8, 12, 24, 48, 96, 192, 384]
    assert config.truth.name == "card"
