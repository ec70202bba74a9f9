"""A forked program cannot tell that it is one, but for what `forking.py` names."""

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import forking
import pytest
from forking import FREE
from running import PROOFCARD, python, run, start, surroundings
from several import small
from waiting import until

TOLD = """
import json, os, random, signal, sys, threading
import numpy, torch
told = {
    "argv": sys.argv, "folder": os.getcwd(), "main": __name__, "path": sys.path, "flags": list(sys.flags),
    "environment": dict(os.environ), "threads": threading.active_count(), "torch": torch.get_num_threads(),
    "signals": [str(signal.getsignal(n)) for n in range(1, signal.NSIG)],
    "standard": [
        (f.isatty(), f.encoding, f.errors, f.line_buffering, f.write_through, f.fileno())
        for f in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "read": sys.stdin.read(), "descriptors": sorted(os.listdir("/proc/self/fd")),
    "ours": [name for name in sys.modules if name.startswith("proofcard")],
    "drawn": [random.random(), numpy.random.random(), torch.initial_seed()],
}
json.dump(told, sys.stdout)
"""


def told(program: Path, cwd: Path, fresh: bool) -> dict[str, Any]:
    said = python(program, "word", "two words", cwd=cwd, fresh=fresh)
    assert (said.returncode, said.stderr) == (0, "")
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_it_finds_what_a_process_of_its_own_finds(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TOLD)
    own, forked, again = (told(program, tmp_path, fresh) for fresh in (True, False, False))
    assert len({one["drawn"][n] for one in (own, forked, again) for n in range(3)}) == 9
    assert "PROOFCARD_TOOLCHAINS" not in own["environment"]
    del forked["environment"]["PROOFCARD_TOOLCHAINS"]
    assert not own["ours"] and "proofcard.cli" in forked["ours"]
    for one in (own, forked):
        del one["drawn"], one["ours"]
        one["environment"] = {n: v for n, v in one["environment"].items() if not n.startswith(FREE)}
    assert forked == own


@pytest.mark.parametrize(
    ("program", "status", "out", "last"),
    [
        ("print('said'); raise SystemExit(3)", 3, "said\n", ""),
        ("import atexit; atexit.register(print, 'last'); print('first')", 0, "first\nlast\n", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "", ""),
        ("raise ValueError('so')", 1, "", "ValueError: so"),
        ("raise SystemExit('a sentence')", 1, "", "a sentence"),
    ],
)
@pytest.mark.parametrize("fresh", [True, False], ids=["own", "forked"])
def test_it_ends_as_a_process_of_its_own_ends(
    tmp_path: Path, fresh: bool, program: str, status: int, out: str, last: str
) -> None:
    (tmp_path / "program.py").write_text(program)
    said = python(tmp_path / "program.py", cwd=tmp_path, fresh=fresh)
    assert (said.returncode, said.stdout) == (status, out)
    assert "".join(said.stderr.splitlines()[-1:]) == last


def test_what_is_started_by_name_ends_as_a_process_of_its_own_and_takes_signals(tmp_path: Path) -> None:
    forked = forking.by_name(surroundings())
    for words in (["--version"], ["quantize", "seed=x"]):
        own = run([PROOFCARD, *words], tmp_path)
        assert run(["proofcard", *words], tmp_path, forked) == own
        assert run(["python", "-P", "-m", "proofcard", *words], tmp_path, forked) == own
    assert run(["python", "-c", "import sys; print(*sys.argv)", "a b"], tmp_path, forked)[1] == "-c a b\n"
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        folder = tmp_path / str(status)
        folder.mkdir()
        process = start(["proofcard", *small()[1:]], folder, forked)
        until(lambda: any(folder.glob(".checkpoint*")))  # noqa: B023
        assert len(running_in(folder)) == 2
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == status
        until(lambda: not running_in(folder))  # noqa: B023


def running_in(folder: Path) -> list[str]:
    """The processes with this working folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == folder:
                found.append(path.parent.name)
    return found
