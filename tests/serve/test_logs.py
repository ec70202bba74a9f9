"""An engine's log in a few lines, and memory that ran out recognised as the engines say it."""

import time
from pathlib import Path

import pytest
from serve.engines import profile

from proofcard.environments import program
from proofcard.errors import Usage
from proofcard.serve import effective
from proofcard.serve.logs import both_ends, last_line, last_lines, out_of_memory, whole

TRACE = """INFO: loading
Traceback (most recent call last):
  File "/x/server.py", line 12, in load
    model = architecture.from_pretrained(
            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/x/model.py", line 3, in from_pretrained
    raise ValueError("no such layer")
ValueError: no such layer
INFO: shutting down
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "engine.log"
    path.write_text(TRACE)
    return path


def test_a_traceback_is_left_out_but_for_what_it_says(log: Path):
    assert last_lines(log) == ["INFO: loading", "ValueError: no such layer", "INFO: shutting down"]
    assert last_line(log) == "INFO: shutting down"


def test_an_exception_further_up_comes_first(log: Path):
    with log.open("a") as file:
        file.write("".join(f"INFO: step {n}\n" for n in range(20)))
    assert last_lines(log, 3) == ["ValueError: no such layer", *(f"INFO: step {n}" for n in (17, 18, 19))]


def test_our_own_looks_at_its_health_are_left_out(log: Path):
    with log.open("a") as file:
        file.writelines(
            f'[{n}] INFO:     127.0.0.1:4{n} - "GET /health HTTP/1.1" 503\n' for n in range(1000, 2500)
        )
    assert last_lines(log, 1) == ["ValueError: no such layer", "INFO: shutting down"]


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path):
    assert last_lines(tmp_path / "none") == [] and last_line(tmp_path / "none") == ""


def test_secrets_are_struck_out(log: Path):
    log.write_text("using hf_abcdefghijklmnopqrst\n")
    assert last_line(log) == "using [redacted]"


SAID = {  # where each engine says so in its own source
    "sglang": ("serve", "sglang/srt/model_executor/pool_configurator.py", "Not enough memory. Please try"),
    "vllm": ("vllm", "vllm/v1/core/kv_cache_utils.py", "No available memory for the cache blocks"),
}


@pytest.mark.parametrize("engine", SAID)
def test_memory_that_ran_out_is_recognised_as_the_engine_says_it(log: Path, engine: str):
    extra, source, text = SAID[engine]
    log.write_text(f"RuntimeError: {text}.\n")
    remedy = {"sglang": "mem-fraction-static", "vllm": "gpu-memory-utilization"}[engine]
    assert remedy in (out_of_memory(log, engine, 1) or "")
    try:
        python = program(extra, "python")  # type: ignore[arg-type]
    except Usage as usage:
        pytest.skip(f"the text is not held to the engine's own source: {usage}")
    (found,) = python.parent.parent.glob(f"lib/python3*/site-packages/{source}")
    assert text in found.read_text()


def test_the_kernels_kill_is_told_apart_from_an_error(log: Path):
    assert "killed, probably by the kernel" in (out_of_memory(log, "transformers", -9) or "")
    assert out_of_memory(log, "transformers", 1) is None


def test_a_log_of_gigabytes_is_read_in_part(log: Path):
    with log.open("r+b") as file:
        file.write(b"FIRST\n")
        file.seek(4 << 30)
        file.write(b"\nLAST\n")
    text = both_ends(log)
    assert text.startswith("FIRST\n") and text.endswith("\nLAST") and len(text) < 2 << 20
    assert whole(log).endswith("\nLAST\n") and last_line(log) == "LAST"


def test_a_line_without_end_is_cut(log: Path):
    log.write_text("x" * (1 << 20))
    assert len(last_line(log)) == 400
    assert effective.vllm(profile("vllm"), both_ends(log), scales=False)


def test_what_a_log_says_is_searched_in_no_time(log: Path):
    begun = time.monotonic()
    config = "Initializing a V1 LLM engine (v1) with config: "
    for text in (config + "a" * 10**6, config + "a=" * 10**6, "Using " * 10**6, "E." * 10**6, "\r" * 10**6):
        log.write_text(text)
        effective.vllm(profile("vllm"), both_ends(log), scales=True)
        effective.sglang(profile("sglang_published"), {}, both_ends(log), scales=True)
        last_lines(log)
    assert time.monotonic() - begun < 10
