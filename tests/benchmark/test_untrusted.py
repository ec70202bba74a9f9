"""What aiperf is given and what it records, both of which a server has a say in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import NAMES, delta, serving, streamed
from measuring import TOKENIZER

from proofcard.benchmark import load, points, results
from proofcard.benchmark.answer_length import Dialect, dialect_of
from proofcard.benchmark.command import _beside
from proofcard.benchmark.measure import begun
from proofcard.config import compose
from proofcard.config.benchmarking import Benchmark, BenchmarkConfig
from proofcard.errors import Stop, Usage
from proofcard.serve.endpoint import Endpoint

ABOUT = {"phase_name": "users-1", "request_start_ns": 10**9, "request_end_ns": 3 * 10**9}
TIMES = {
    "request_latency": {"value": 2000.0}, "time_to_first_token": {"value": 100.0},
    "inter_token_latency": {"value": 10.0}, "input_sequence_length": {"value": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def config() -> BenchmarkConfig:
    words = ["endpoint=http://127.0.0.1:1/v1", f"tokenizer={TOKENIZER}", "model=m", "tracking=off"]
    return compose(BenchmarkConfig, "benchmark", [*words, "benchmark.output_tokens=100"])


@pytest.fixture(scope="module")
def benchmark(config: BenchmarkConfig) -> Benchmark:
    return config.benchmark


def target(model: str = "m", tokenizer: Path = TOKENIZER, url: str = "http://127.0.0.1:1/v1") -> Endpoint:
    return Endpoint(url, model, None, tokenizer, "", 0, Path("/dev/null"))


def record(tokens: Any, **changed: Any) -> dict[str, Any]:
    return {"metadata": ABOUT, "metrics": TIMES | {"output_sequence_length": {"value": tokens}} | changed}


@pytest.mark.parametrize("what", NAMES)
def test_aiperf_is_given_no_template_and_no_control_characters(tmp_path, benchmark: Benchmark, what: str):
    dialect = Dialect("ignore_eos", {}, "max_tokens", usage=True)
    with pytest.raises(Usage, match="choose another name"):
        load._order(benchmark, target(NAMES[what]), dialect, tmp_path, tmp_path / "words")
    words = tmp_path / f"{NAMES[what]}\x07"
    with pytest.raises(Usage, match="choose another name"):
        load._order(benchmark, target("meta-llama/Llama-3 8B"), dialect, tmp_path, words)
    words = tmp_path / "words"
    assert json.dumps(load._order(benchmark, target("meta-llama/Llama-3 8B"), dialect, tmp_path, words))


@pytest.mark.parametrize("tokens", [0, -5, 10**18, 217, 1e300])
def test_a_count_that_no_answer_has_is_a_failed_request(tokens: Any):
    found = load._request(record(tokens), 100)
    assert found.error is not None and found.error.endswith(" tokens counted, 100 requested")
    assert load._request(record(103), 100).tokens == 103


@pytest.mark.parametrize(
    "broken",
    [
        {}, [], None, 7, {"metadata": None}, {"metadata": {"phase_name": "users-1"}}, {"metadata": ABOUT},
        {"metadata": ABOUT | {"phase_name": "users-x"}, "metrics": {}},
        {"metadata": ABOUT | {"phase_name": "users-77"}, "metrics": {}, "error": "x"},
        record(float("nan")), record(float("inf")), record("many"), record(None), record([1]),
        {"metadata": ABOUT | {"request_start_ns": "now"}, "metrics": {}, "error": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_record_that_is_none_ends_the_measurement(benchmark: Benchmark, broken: Any):
    with pytest.raises(Stop, match="a record of aiperf cannot be read"):
        list(load._counted(iter([broken]), benchmark))


def test_lines_that_are_none_or_without_end(tmp_path, benchmark: Benchmark):
    file = tmp_path / "records"
    for text in ("{\n", "[" * 100_000 + "\n", "a" * (2 << 20)):
        file.write_text(text)
        with pytest.raises(Stop, match="a record of aiperf cannot be read"):
            list(load._counted(load._Lines(file).new(), benchmark))
    file.write_text(json.dumps(record(100)))  # not yet whole
    lines = load._Lines(file)
    assert list(lines.new()) == []
    with file.open("a") as more:
        more.write("\n")
    assert len(list(load._counted(lines.new(), benchmark))) == 1


def test_times_that_make_no_sense_are_a_failed_request():
    for name in ("request_latency", "time_to_first_token", "inter_token_latency"):
        assert (
            load._request(record(100, **{name: {"value": -1.0}}), 100).error == "its times are inconsistent"
        )


def test_the_servers_words_in_a_failure_are_short_and_on_one_line():
    error = {"type": "HTTP", "message": "[/INST]\x1b[2J\n| x |" + "y" * 10**6}
    found = load._request({"metadata": ABOUT, "metrics": {}, "error": error}, 100)
    assert found.error is not None and found.error.startswith(r"HTTP: [/INST]\x1b[2J | x |")
    assert len(found.error) == 300


def test_counts_whose_mean_is_right_are_doubted_all_the_same(benchmark: Benchmark):
    requests = [load._request(record(tokens), 100) for tokens in (40, 160)]
    whole = points.over_starts([points.point(1, requests)])
    assert "answers were 40 to 160 tokens long instead of 100" in points.doubts(whole, benchmark, usage=True)


def test_files_of_aiperf_that_are_none(tmp_path):
    for read in (load.prompts, load.version):
        for text in ("{", "[]", '{"data": [{}]}', "null"):
            (tmp_path / "inputs.json").write_text(text)
            (tmp_path / "profile_export_aiperf.json").write_text(text)
            with pytest.raises(Stop, match="which aiperf writes, cannot be read"):
                read(tmp_path)


USAGES: dict[str, tuple[Any, bool]] = {
    "as it should be": ({"completion_tokens": 8}, True),
    "fewer": ({"completion_tokens": 1}, True),
    "more than were asked for": ({"completion_tokens": 512}, False),
    "absurd": ({"completion_tokens": 10**40}, False),
    "none": ({"completion_tokens": 0}, False),
    "below zero": ({"completion_tokens": -8}, False),
    "a string": ({"completion_tokens": "8"}, False),
    "a fraction": ({"completion_tokens": 8.5}, False),
    "true": ({"completion_tokens": True}, False),
    "null": (None, False),
    "a list": ([8], False),
    "without a count": ({"prompt_tokens": 8}, False),
}


@pytest.mark.parametrize("what", USAGES)
def test_a_server_counts_only_where_its_count_can_be_true(what: str):
    usage, counts = USAGES[what]
    answer = streamed(delta("1 2 3", finish="length"), {"choices": [], "usage": usage})
    with serving({"a": answer}) as server:
        assert dialect_of(target(url=server.url("a")), 0.0, 100).usage is counts


SCHEMA = "proofcard/benchmark/3"
EARLIER = {
    "not JSON": "{", "a list": "[]", "deep": "[" * 100_000, "another schema": '{"schema": "x"}',
    "nothing in it": json.dumps({"schema": SCHEMA}),
    "levels of numbers": json.dumps(
        {"schema": SCHEMA, "server": {"key": None}, "load": {}, "serving": {}, "levels": [1]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", EARLIER)
def test_results_to_compare_with_that_are_none(tmp_path, config: BenchmarkConfig, what: str):
    (tmp_path / results.NUMBERS).write_text(EARLIER[what])
    with pytest.raises(Usage):
        _beside(config.model_copy(update={"against": tmp_path}), begun(config), tmp_path)


@pytest.mark.parametrize(
    "endpoint",
    ["http:///v1", "http://[::1/v1", "http://h:99999/v1", "http://h:0/v1", "http://u:p@h/v1", "http://h h/v1",
     "http://h?x=/v1", "http://h\r\nX: y/v1", "http://h#/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(config: BenchmarkConfig, endpoint: str):
    from proofcard.benchmark.measure import resolved

    with pytest.raises(Usage, match="is not the address of a server"):
        resolved(config.model_copy(update={"endpoint": endpoint}))


def test_two_models_with_one_name_of_a_folder_are_not_the_same(config: BenchmarkConfig):
    from proofcard.benchmark.command import _configured

    one, other = (begun(config.model_copy(update={"model": name})) for name in ("a/b", "a-b"))
    assert one.name == other.name and _configured(one) != _configured(other)
