"""The supervisor with small real programs: whatever ends, nothing is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from serving import left_of

from proofcard.errors import Stop
from proofcard.serve.process import Supervised

# A child that starts a session of its own and loses its parent, as an engine's workers may.
FAMILY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("far", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists("far") or not open("far").read(): time.sleep(0.01)
open("near", "w").write(str(os.getpid()))
"""
STAYS = FAMILY + "time.sleep(600)"


def supervised(folder: Path, code: str, grace_s: float = 5.0) -> Supervised:
    argv = (sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{code}")
    return Supervised(argv, dict(os.environ), folder / "log", grace_s)


def members(folder: Path) -> list[psutil.Process]:
    end = time.monotonic() + 30
    while not (folder / "near").exists() or not (folder / "near").read_text():
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.02)
    return [psutil.Process(int((folder / name).read_text())) for name in ("near", "far")]


def test_the_end_of_the_context_is_the_end_of_every_descendant(tmp_path):
    with supervised(tmp_path, STAYS) as engine:
        processes = members(tmp_path)
        assert not engine.ended()
    assert left_of(processes, 0) == []
    assert engine.status() == -signal.SIGTERM


def test_an_engine_that_ends_by_itself_takes_its_children_with_it(tmp_path):
    with supervised(tmp_path, FAMILY + "print('out of ideas'); sys.exit(3)") as engine:
        processes = members(tmp_path)[1:]
        engine.status()
        assert engine.ended() and engine.status() == 3
        assert left_of(processes, 0) == []
    assert (tmp_path / "log").read_text() == "out of ideas\n"


def test_an_engine_that_does_not_listen_is_killed_after_its_grace(tmp_path):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + STAYS
    with supervised(tmp_path, deaf, grace_s=0.3) as engine:
        processes = members(tmp_path)
    assert left_of(processes, 0) == []
    assert engine.status() == -signal.SIGKILL


def test_kill_9_of_the_supervisor_leaves_nothing_of_the_engines_session(tmp_path):
    with supervised(tmp_path, STAYS.replace("os.setsid()", "pass")) as engine:
        processes = members(tmp_path)
        psutil.Process(engine.pid).parent().kill()
        assert left_of(processes[:1]) == []  # the kernel does it
        assert engine.ended() and engine.status() is None
    assert left_of(processes) == []


def test_kill_9_of_the_parent_leaves_nothing(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from proofcard.serve.process import Supervised\n"
        "Supervised((sys.executable, '-c', sys.argv[1]), dict(os.environ), Path('log'), 5.0); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, STAYS], cwd=tmp_path) as parent:
        processes = members(tmp_path)
        processes += psutil.Process(parent.pid).children()
        parent.kill()
    assert left_of(processes) == []


def test_a_program_that_is_not_there_is_said(tmp_path):
    with pytest.raises(Stop, match=r"/no/such/engine cannot be started: .*No such file"):
        Supervised(("/no/such/engine",), {}, tmp_path / "log", 1.0)
