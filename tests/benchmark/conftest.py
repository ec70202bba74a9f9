"""A null endpoint, and one measurement of it by the real aiperf that many tests look at."""

from collections.abc import Iterator

import pytest
from measuring import EACH_S, FIRST_S, TOKENIZER, TOKENS, Measured, on_null, words_of_the_docs

from proofcard.benchmark import client_cost
from proofcard.benchmark.measure import Measurement, begun, measure, resolved
from proofcard.benchmark.null_endpoint import Pace
from proofcard.config import compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.tracking import Tracker


@pytest.fixture(scope="session")
def aiperf() -> None:
    try:
        program("bench", "aiperf")
    except Usage as missing:
        pytest.skip(f"the load generator cannot run here: {missing}")


@pytest.fixture(scope="session")
def null_url() -> Iterator[str]:
    with client_cost.null([Pace(1, FIRST_S, EACH_S)], TOKENIZER) as endpoint:
        yield endpoint.url


@pytest.fixture(scope="session")
def measured(aiperf: None, null_url: str, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Two levels on the null endpoint, which needs to know no answer."""
    folder = tmp_path_factory.mktemp("measured")
    sizes = [f"benchmark.output_tokens={TOKENS}", "benchmark.waves=1", "benchmark.fewest_requests=2"]
    tokenizer = words_of_the_docs(folder / "tokenizer")
    words = on_null(null_url, f"work_dir={folder}", f"tokenizer={tokenizer}", *sizes)
    config = resolved(compose(BenchmarkConfig, "benchmark", words))
    found = Measurement(begun(config), folder)
    measure(config, None, found, Tracker(None))
    return Measured(config, folder, found.results)
