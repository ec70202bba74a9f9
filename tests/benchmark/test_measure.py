"""One measurement of the null endpoint, by the real aiperf."""

import pytest
from measuring import EACH_S, FIRST_S, TOKENS, Measured

from proofcard.benchmark import figure, load, report, results
from proofcard.benchmark.report import of_earlier, of_published
from proofcard.digest import sha256_json

FIGURES = {
    "first_ms_p50": ("time_to_first_token", "p50", 1),
    "each_ms_mean": ("inter_token_latency", "avg", 1),
    "request_s_p90": ("request_latency", "p90", 1000),
    "request_s_p99": ("request_latency", "p99", 1000),
}


@pytest.mark.parametrize("users", [1, 2])
def test_figures_are_those_that_aiperf_itself_exports(measured: Measured, users: int) -> None:
    (point,) = [each for each in measured.found.starts[0].points if each.users == users]
    for name, (metric, which, unit) in FIGURES.items():
        assert getattr(point, name) == pytest.approx(measured.aiperf_says(users, metric, which) / unit), name
    # aiperf counts its seconds from the start of the phase, ours begin with the first request
    assert point.tokens_per_s >= 0.999 * measured.aiperf_says(users, "output_token_throughput", "avg")


def test_no_request_is_quicker_than_the_endpoint_s_pace(measured: Measured) -> None:
    for level in measured.found.levels:
        assert level.tokens_an_answer.mean == TOKENS
        assert level.first_ms_p50.least >= 1000 * FIRST_S
        assert level.request_s_p50.least >= FIRST_S + (TOKENS - 1) * EACH_S
        assert level.tokens_per_s.mean <= level.users * TOKENS / (FIRST_S + (TOKENS - 1) * EACH_S)


def test_warm_up_is_sent_and_not_counted(measured: Measured) -> None:
    sent = len(load.prompts(measured.folder / "client-1"))
    counted = [level.requests for level in measured.found.levels]
    assert counted == [2, 2]
    assert sent == sum(counted) + 1 + 2


def test_no_prompt_is_sent_twice_and_the_client_alone_gets_the_same(measured: Measured) -> None:
    prompts = load.prompts(measured.folder / "client-1")
    assert len({str(prompt) for prompt in prompts}) == len(prompts)
    assert load.prompts(measured.folder / "client-alone") == prompts
    assert measured.found.prompts_sha256 == sha256_json(prompts)


def test_the_client_s_own_share_is_measured_at_every_level(measured: Measured) -> None:
    for level in measured.found.levels:
        client = level.client
        assert client.share == max(0, client.latency, client.each, client.throughput)
        assert client.share < 0.5  # of answers this short, on however busy a machine
        assert any("client's" in said for said in level.doubts) == (client.share >= 0.02)


def test_the_null_endpoint_s_memory_is_seen(measured: Measured) -> None:
    assert all(0 < level.rss_gib.mean < 1 for level in measured.found.levels)


def test_the_report_tells_it_within_80_columns_and_beside_others(measured: Measured) -> None:
    from rich.console import Console

    from proofcard.reports import show

    earlier = of_earlier("before-001", measured.found, ["serving.flags.tp-size"])
    beside = [earlier, *map(of_published, results.published(("card", "rtx6kpro")))]
    sections = report.sections(measured.found, beside)
    console = Console(width=80, record=True, highlight=False)
    show(sections, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    page = report.page(measured.found, sections)
    assert "before-001: differs in serving.flags.tp-size." in page
    row = next(line for line in page.splitlines() if line.startswith("| 32 |"))
    assert row == "| 32 | – | – | 590! | 1,079 |"
    assert figure.throughput(measured.found, beside).get_axes()[0].get_legend() is not None


def test_an_interrupted_measurement_says_so(measured: Measured) -> None:
    page = report.page(
        measured.found, report.sections(measured.found.model_copy(update={"complete": False}), [])
    )
    assert "interrupted" in page


def test_numbers_are_on_disk_and_read_again(measured: Measured) -> None:
    assert results.read(measured.folder) == measured.found
    assert measured.found.complete
