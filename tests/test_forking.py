"""A forked program cannot tell that it is one, but for what `forking.py` names."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from forking import FREE
from running import python

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
    for one in (own, forked):
        del one["drawn"]
        one["environment"] = {n: v for n, v in one["environment"].items() if not n.startswith(FREE)}
        one["ours"] = [name for name in one["ours"] if not name.startswith("proofcard.nvfp4")]
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
