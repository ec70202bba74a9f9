"""A stage as a process: its command line, its end, and what becomes of it when we are killed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from running import PIPE, start

from proofcard.run import child

WAITS = """
import sys, time
from pathlib import Path
from proofcard import children
children.python = lambda *words: [sys.executable, "-c", {stage!r}]
from proofcard.run import child
try:
    print("status", child.ended(["quantize"]), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
STAGE = """
import signal, sys, time
from pathlib import Path
told = []
def tell(number, frame):
    told.append(number)
    time.sleep(0.3)  # what a stage does to end in order
    Path("told").write_text(" ".join(map(str, told)))
    sys.exit(1)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, tell)
Path("begun").write_text("")
time.sleep(60)
"""


def until(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_the_command_line_can_be_pasted() -> None:
    assert child.command(["verify", "checkpoint=a b"]) == "proofcard verify 'checkpoint=a b'"
    many = child.command(["quantize"], processes=8)
    assert many == "torchrun --nproc-per-node=8 --standalone --no-python proofcard quantize"


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["dance"], 2)])
def test_a_child_ends_with_its_own_status_and_shows_what_it_is_allowed_to(
    capfd: pytest.CaptureFixture[str], words: list[str], status: int
) -> None:
    assert child.ended(words) == status
    said = capfd.readouterr()
    assert said.out.startswith("proofcard ") if status == 0 else "unknown command" in said.err
    assert child.ended(words, shows="nothing") == status
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_reaches_the_stage_once_and_a_kill_ends_it_too(tmp_path: Path, number: int) -> None:
    run = start([sys.executable, "-c", WAITS.format(stage=STAGE)], tmp_path, out=PIPE)
    until(tmp_path / "begun")
    os.kill(run.pid, number)
    out, _ = run.communicate(timeout=60)
    until(tmp_path / "told")
    time.sleep(0.1)
    told = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
    assert (tmp_path / "told").read_text() == str(int(told))
    assert out == ("interrupted\n" if number == signal.SIGINT else "")
