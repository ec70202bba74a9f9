"""An interrupt ends a command: wherever it strikes, and whatever does not end by itself."""

import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from running import start

from proofcard import cli

PROGRAM = """
import sys, types
module = types.ModuleType("proofcard.work")
exec({work!r}, vars(module))
sys.modules["proofcard.work"] = module
from proofcard import interrupts
interrupts._PATIENCE, interrupts._ONE = {patience}, {one}
from proofcard.command import run
run("quantize", "proofcard.work", [])
"""
IN_ORDER = "interrupted: no partial files were left; the same command starts over\n"
TELL = "import os, signal, sys, threading, time\ndef tell():\n    os.kill(os.getpid(), signal.SIGINT)\n"


def ended(
    work: str, cwd: Path, patience: float = 60.0, one: float = 1.0, debug: str = ""
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command whose work is the body of a function."""
    module = f"{TELL}def run(words):\n    {work}"
    program = PROGRAM.format(work=module, patience=patience, one=one)
    process = start([sys.executable, "-c", program], cwd, {"PROOFCARD_DEBUG": debug} if debug else {})
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_an_interrupt_that_a_finalizer_swallows_is_raised_again(tmp_path: Path) -> None:
    work = """
    class Gone:
        def __del__(self):
            tell()
            sum(range(10))  # it is raised here, where nobody can get it
    Gone()
    time.sleep(20)
    return 0"""
    assert ended(work, tmp_path) == (130, "", IN_ORDER)


def test_it_is_not_raised_where_a_lock_would_not_be_given_back(tmp_path: Path) -> None:
    work = """
    lock = threading.Lock()
    names = {"lock": lock, "kill": os.kill, "us": os.getpid()}
    taken = "def taken(): lock.acquire(); kill(us, 2); sum(range(10)); lock.release()"
    exec(compile(taken, "/usr/lib/threading.py", "exec"), names)
    try:
        names["taken"]()
        time.sleep(20)
    finally:
        print("given back" if lock.acquire(timeout=0) else "kept")"""
    assert ended(work, tmp_path) == (130, "given back\n", IN_ORDER)


def test_it_is_not_raised_in_a_call_of_the_database(tmp_path: Path) -> None:
    work = """
    state = []
    names = {"call": lambda: (tell(), sum(range(10))), "state": state}
    written = "def written(): state.append('open'); call(); state.append('closed')"
    exec(compile(written, "/site-packages/sqlalchemy/engine/base.py", "exec"), names)
    try:
        names["written"]()
        time.sleep(20)
    finally:
        print(*state)"""
    assert ended(work, tmp_path) == (130, "open closed\n", IN_ORDER)


def test_it_is_raised_in_one_who_waits_for_a_lock(tmp_path: Path) -> None:
    work = """
    threading.Timer(0.1, tell).start()
    threading.Event().wait(20)"""
    assert ended(work, tmp_path) == (130, "", IN_ORDER)


def test_what_is_sent_twice_at_once_counts_once(tmp_path: Path) -> None:
    work = """
    try:
        tell()
        time.sleep(20)
    finally:
        tell()
        time.sleep(0.1)
        print("in order")"""
    assert ended(work, tmp_path) == (130, "in order\n", IN_ORDER)


SWALLOWS = """
    try:
        tell()
        time.sleep(20)
    except BaseException:
        pass
    {again}
    time.sleep(20)"""
AGAIN = "time.sleep(0.3)\n    tell()"
IN_C = """
    import ctypes
    tell_later = lambda: (time.sleep(0.1), tell(), time.sleep(0.3), tell())
    threading.Thread(target=tell_later, daemon=True).start()
    lock = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(lock)
    ctypes.CDLL(None).pthread_mutex_lock(lock)  # never returns, and no signal wakes it"""


@pytest.mark.parametrize("work", [SWALLOWS.format(again=AGAIN), IN_C])
def test_a_second_one_ends_it_at_once(tmp_path: Path, work: str) -> None:
    said = "interrupted again: ended at once; nothing incomplete has a final name\n"
    assert ended(work, tmp_path, one=0.2) == (130, "", said)


def test_what_does_not_end_in_time_is_ended_and_named(tmp_path: Path) -> None:
    status, out, err = ended(SWALLOWS.format(again="pass"), tmp_path, patience=0.5)
    assert (status, out) == (130, "")
    assert re.fullmatch(
        r"interrupted: the end took more than 0 s, in proofcard\.work, line \d+: ended at once; "
        "nothing incomplete has a final name\n",
        err,
    )


def test_debugging_shows_every_thread(tmp_path: Path) -> None:
    err = ended(SWALLOWS.format(again="pass"), tmp_path, patience=0.2, debug="1")[2]
    assert "Current thread" in err and "in run" in err


def test_what_has_to_be_waited_for_may_take_longer_and_is_told_at_last(tmp_path: Path) -> None:
    work = """
    from proofcard import interrupts
    try:
        tell()
        time.sleep(20)
    except KeyboardInterrupt:
        interrupts.allow({}, lambda: print("last words", flush=True))
        time.sleep(0.5)
        print("in order")
        raise"""
    assert ended(work.format(20), tmp_path, patience=0.2) == (130, "in order\n", IN_ORDER)
    status, out, _ = ended(work.format(0), tmp_path, patience=0.2)
    assert (status, out) == (130, "last words\n")


def test_a_fork_s_signals_are_its_own(tmp_path: Path) -> None:
    work = """
    child = os.fork()
    if child == 0:
        time.sleep(20)
    time.sleep(0.1)
    os.kill(child, signal.SIGINT)
    time.sleep(0.5)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return 0"""
    assert ended(work, tmp_path, patience=0.2) == (0, "130\n", IN_ORDER)


def test_once_the_work_is_done_its_status_stands(tmp_path: Path) -> None:
    work = """
    import atexit
    atexit.register(lambda: (tell(), time.sleep(0.1)))
    return 3"""
    assert ended(work, tmp_path) == (3, "", "")


def test_sigint_stays_ignored_where_a_shell_has_it_so(tmp_path: Path) -> None:
    program = PROGRAM.format(work=f"{TELL}def run(words):\n    tell()\n    return 0", patience=60, one=1)
    file = tmp_path / "program.py"
    file.write_text(program)
    process = start(["bash", "-c", f"trap '' INT; exec {sys.executable} {file}"], tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_before_anything_is_started_it_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "proofcard.command", SimpleNamespace(run=run))  # type: ignore[misc]
    monkeypatch.setattr(sys, "argv", ["proofcard", "plan"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err) == (130, "interrupted: nothing was started\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_alike(tmp_path: Path, number: int) -> None:
    began = time.monotonic()
    status, _, err = ended(f"os.kill(os.getpid(), {int(number)})\n    time.sleep(20)", tmp_path)
    assert (status, err) == (128 + number, IN_ORDER)
    assert time.monotonic() - began < 15
