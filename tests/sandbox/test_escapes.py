"""Attacks, each run for real by the known-answer check: none gets out, is judged right, or stays."""

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox.attacks import BOMBS, CHEATS, SEARCHES
from sandbox.attempts import HELD
from sandbox.calls import CALLS, PARENT

from proofcard.config.serving import Call, Calls
from proofcard.sandbox import Limits
from proofcard.serve.truth.code import trial

SHORT = Limits(seconds=0.6, cpu_s=1)
ENDLESS = ("after", "CPU")
"""How a bomb has to end that takes nothing but time."""
AT_MOST = 4.0  # seconds for any verdict, on a busy machine


def asked(returns: object) -> Calls:
    return Calls(function="answer", expected=(Call(given=(), returns=returns),))


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    """A process of this user with a secret in its environment, as the one that holds the checker is."""
    process = subprocess.Popen(["sleep", "600"], env={"HF_TOKEN": "hf_secretsecretsecret"})
    yield process.pid
    assert process.poll() is None, "an attack ended another process"
    process.kill()
    process.wait()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("secret")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", HELD)
def test_an_attempt_is_refused(name: str, victim: int, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    mark = secret.with_name("mark")
    user = pwd.getpwuid(os.getuid()).pw_name
    names = {"SECRET": str(secret), "MARK": str(mark), "VICTIMS_USER": user, "VICTIM": str(victim)}
    code = HELD[name]
    for word, value in names.items():
        code = code.replace(word, value)
    before = secret.stat()
    assert trial(code, asked("held")) == (True, "its code passes")
    after = secret.stat()
    assert not mark.exists() and not mark.is_symlink()
    assert secret.read_text() == "secret" and (after.st_mode, after.st_mtime) == (
        before.st_mode,
        before.st_mtime,
    )


def test_every_system_call_that_computing_does_not_need_is_refused() -> None:
    calls = [
        (name, number, [os.getpid() if a == PARENT else a for a in given]) for name, number, given in CALLS
    ]
    assert len({name for name, _, _ in calls}) == len(calls) > 150
    code = f"""
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def answer():
    done = []
    for name, number, given in json.loads({json.dumps(json.dumps(calls))}):
        ctypes.set_errno(0)
        status = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, given))
        if (status, ctypes.get_errno()) != (-1, errno.EPERM):
            done.append([name, status, ctypes.get_errno()])
    return done
"""
    assert trial(code, asked([])) == (True, "its code passes")


@pytest.mark.parametrize("name", SEARCHES)
def test_what_a_call_should_return_is_nowhere_in_the_process(name: str) -> None:
    calls = Calls(
        function="answer",
        expected=(Call(given=(), returns="nothing"), Call(given=(), returns="EXPECTED value")),
    )
    why = 'its code fails: answer() returns "nothing", not "EXPECTED value"'
    assert trial(SEARCHES[name], calls) == (False, why)


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_judged_right(name: str) -> None:
    begun = time.monotonic()
    right, why = trial(CHEATS[name], asked(5), limits=SHORT)
    assert not right and why.startswith("its code "), why
    assert why.isprintable() and len(why) < 400
    assert time.monotonic() - begun < AT_MOST


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_over_soon(name: str) -> None:
    code, how = BOMBS[name]
    limits = SHORT if how not in ENDLESS else Limits(seconds=SHORT.seconds / 2, cpu_s=1)
    begun = time.monotonic()
    right, why = trial(code, asked(5), limits=limits)
    assert not right and re.search(f"{how}|was stopped after {limits.seconds} s", why), why
    assert time.monotonic() - begun < AT_MOST


def test_time_of_the_processor_ends_though_its_signal_is_ignored() -> None:
    code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    right, why = trial(code, asked(5), limits=Limits(seconds=30, cpu_s=1))
    assert not right and re.match("its code was (stopped|killed) after 1 s of CPU", why), why


def test_nothing_is_left_of_a_program_whose_starter_was_killed() -> None:
    """A program that waits for ever ends with the process that started it, however that ended."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from proofcard.sandbox import started\n"
        "with started(Path(sys.argv[1])) as running:\n"
        "    print(running._process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    waits = Path(__file__).with_name("waits.py")
    starter = subprocess.Popen([sys.executable, "-c", code, str(waits)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    confined = int(starter.stdout.readline())
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    end = time.monotonic() + 5
    while time.monotonic() < end and Path(f"/proc/{confined}").exists():
        time.sleep(0.01)
    assert not Path(f"/proc/{confined}").exists()
