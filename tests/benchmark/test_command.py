"""The command as a user runs it: on the demo, on servers that are no good, and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from measuring import on_null
from running import ROOT, command

from proofcard import manifest

BENCHMARK = [sys.executable, "-P", "-m", "proofcard", "benchmark"]
QUICK = ["benchmark.output_tokens=16", "benchmark.waves=1", "benchmark.fewest_requests=1"]


def call(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a terminal of 80 columns."""
    return command("benchmark", *words, cwd=cwd, environment={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def served(
    aiperf: None, demo: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo's checkpoint, served and measured: two starts of a quick sweep."""
    cwd = tmp_path_factory.mktemp("served")
    words = ["serving=transformers_cpu", *QUICK, "benchmark.restarts=2", "benchmark.levels=[1,2]"]
    known = ["truth.known_answers=null"]  # tests/serve asks them
    return cwd, call(cwd, f"checkpoint={demo}", *words, *known)


def test_the_demo_is_served_and_measured(served) -> None:
    cwd, said = served
    assert said.returncode == 0, said.stderr
    (folder,) = (cwd / "runs/benchmarks").iterdir()
    assert folder.name == "checkpoint.transformers_cpu.demo-001"
    assert {path.name for path in folder.iterdir()} == {"report.md", "results.json", "throughput.png"}
    found = json.loads((folder / "results.json").read_text())
    assert found["complete"] and found["dialect"] == "generation_config" and not found["usage"]
    assert [len(start["points"]) for start in found["starts"]] == [2, 2]
    assert all(start["ready_s"] > 0 for start in found["starts"])
    for level in found["levels"]:
        assert (level["starts"], level["failed"]) == (2, 0)
        assert (
            level["tokens_per_s"]["least"] <= level["tokens_per_s"]["mean"] <= level["tokens_per_s"]["most"]
        )
        assert level["rss_gib"]["most"] > 0.1
    for title in ("Throughput", "Latency", "Machine", "Doubts"):
        assert f"\n{title}\n" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80


def test_mlflow_has_curves_over_users_a_table_of_levels_and_a_run_for_each_start(served, demo: Path) -> None:
    import mlflow

    cwd, _ = served
    client = mlflow.MlflowClient(f"sqlite:///{cwd}/runs/mlflow.db")
    (experiment,) = (each for each in client.search_experiments() if each.name == "proofcard")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    key = manifest.read(demo).key
    name = f"benchmark transformers_cpu demo demo-{key[:8]}"
    assert set(runs) == {f"demo-{key[:12]}", name, f"{name}: start 1", f"{name}: start 2"}
    parent, second = runs[name], runs[f"{name}: start 2"]
    assert parent.data.tags["mlflow.parentRunId"] == runs[f"demo-{key[:12]}"].info.run_id
    assert second.data.tags["mlflow.parentRunId"] == parent.info.run_id
    for one in (parent, second):
        curve = client.get_metric_history(one.info.run_id, "by_users/tokens_per_s")
        assert [point.step for point in curve] == [1, 2]
    table = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "benchmark/levels.json")).read_text()
    )
    assert {"users", "client_share", "request_s_p99", "doubts"} <= set(table["columns"])
    checkpoint = runs[f"demo-{key[:12]}"].data.metrics
    assert checkpoint["tokens_per_s"] == parent.data.metrics["tokens_per_s"]
    assert "known_answers" not in checkpoint  # nobody asked
    assert parent.data.params["benchmark.levels"] == "[1, 2]"
    logged = {each.path for each in client.list_artifacts(parent.info.run_id, "benchmark")}
    files = ("levels.json", "report.md", "results.json", "throughput.png")
    assert logged == {f"benchmark/{name}" for name in files}


def test_a_model_that_knows_nothing_is_not_measured(aiperf: None, null_url: str, tmp_path: Path) -> None:
    words = [
        *on_null(null_url),
        "truth.max_tokens=1",
        "truth.known_answers=${bundled:demo/known_answers.json}",
    ]
    said = call(tmp_path, *words)
    assert said.returncode == 1
    assert "0 of 19 known answers right" in said.stderr and "truth.required=false" in said.stderr
    assert list((tmp_path / "runs/benchmarks").iterdir()) == []


def test_each_configuration_has_a_row_also_one_that_is_refused(aiperf: None, tmp_path: Path) -> None:
    said = call(tmp_path, "-m", *on_null("http://127.0.0.1:1/v1,http://127.0.0.1:2/v1"))
    assert said.returncode == 1  # none of them could be measured
    page = (tmp_path / "runs/benchmarks/comparison-001/report.md").read_text()
    for port in (1, 2):
        assert f"| endpoint=http://127.0.0.1:{port}/v1 | – | – | – | refused |" in page
        assert f"http://127.0.0.1:{port}/v1 cannot be reached (connection refused): start the server" in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to measure: set endpoint="),
        (["endpoint=http://127.0.0.1:1"], "tokenizer is missing"),
        (["endpoint=http://127.0.0.1:1", "tokenizer=."], "tokenizer=. has no tokenizer_config.json"),
        ([f"checkpoint={ROOT}/demo/model"], "a checkpoint has to be served: give serving=PROFILE"),
        (["serving=vllm"], "serving goes with a checkpoint: give checkpoint=DIR, or leave it out"),
        (["checkpoint=/nowhere", "serving=transformers_cpu"], "checkpoint=/nowhere does not exist"),
        (["benchmark=cart"], "benchmark=cart does not exist: did you mean 'card'?"),
        (["benchmark.levels=[2,1]"], "levels must be increasing"),
    ],
)
def test_a_bad_request_measures_nothing(
    aiperf: None, tmp_path: Path, words: list[str], sentence: str
) -> None:
    said = call(tmp_path, *words)
    assert said.returncode == 2
    assert sentence in said.stderr.splitlines()[-1]
    assert not (tmp_path / "runs/mlflow.db").exists()


def test_a_killed_benchmark_leaves_no_process(aiperf: None, null_url: str, tmp_path: Path) -> None:
    words = on_null(null_url, "benchmark.waves=1000")
    with subprocess.Popen([*BENCHMARK, *words], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        below = _wait_for(lambda: _aiperf_below(process.pid))
        os.kill(process.pid, signal.SIGKILL)
    left = _wait_for(lambda: not any(each.is_running() and each.status() != "zombie" for each in below))
    assert left


def _aiperf_below(pid: int) -> list[psutil.Process]:
    """All processes below ours once the client is several."""
    below = psutil.Process(pid).children(recursive=True)
    return below if len(below) >= 4 else []


def _wait_for(seen):
    deadline = time.monotonic() + 300
    while not (found := seen()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
