"""A program that a failed test leaves behind is ended, and says where it was."""

import os
import sys
import time
from pathlib import Path

import hung
import pytest
from forking import Forked
from running import python, start, surroundings

WAITS = """
import subprocess, sys, time
def waits_for_its_child():
    child = subprocess.Popen([sys.executable, "-c", "import time\\ndef sleeps(): time.sleep(600)\\nsleeps()"])
    open("begun", "w")
    child.wait()
waits_for_its_child()
"""


@pytest.mark.parametrize("fresh", [True, False], ids=["own", "forked"])
def test_its_stacks_and_its_child_s_are_told_and_both_are_ended(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "program.py").write_text(WAITS)
    words = [str(tmp_path / "program.py")]
    hung.forget()
    if fresh:
        start([sys.executable, *words], tmp_path)
    else:
        Forked(words, tmp_path, os.environ | surroundings())
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    told = hung.end()
    assert "in waits_for_its_child" in told
    assert "in sleeps" in told
    assert "program.py" in told.splitlines()[0]
    assert hung.end() == ""  # nothing of it runs any more


def test_what_has_ended_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("")
    hung.forget()
    python(tmp_path / "program.py", cwd=tmp_path)
    assert hung.end() == ""
