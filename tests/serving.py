"""Running `serve` as a user would, and looking after its processes."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forking
import psutil
import running
from forking import Forked

TO_FILES = Path(__file__).parent / "serve" / "to_files.py"
Process = Forked | subprocess.Popen[str]


def start(cwd: Path, *overrides: str) -> Process:
    """`serve` in the background, forked where that is possible; its words go to files in `cwd`."""
    for name in ("out.txt", "err.txt"):
        (cwd / name).touch()
    words, environment = [str(TO_FILES), "serve", *overrides], dict(os.environ)
    if forking.alike(environment):
        return Forked(words, cwd, environment | running.surroundings())
    return running.start([sys.executable, "-P", *words], cwd)


def ended(process: Process) -> int:
    """Its exit status; it has some time to end."""
    process.communicate(timeout=200)
    assert process.returncode is not None
    return process.returncode


def wait_for(text: str, path: Path, process: Process, seconds: float = 800) -> None:
    """Until a file holds a text."""
    end = time.monotonic() + seconds
    while text not in path.read_text():
        assert process.poll() is None, (path.parent / "err.txt").read_text()
        assert time.monotonic() < end, path.read_text()
        time.sleep(0.1)


def family(process: Process, least: int) -> list[psutil.Process]:
    """A command's descendants, once there are so many."""
    end = time.monotonic() + 60
    while len(found := psutil.Process(process.pid).children(recursive=True)) < least:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    return found


def left_of(processes: list[psutil.Process], seconds: float = 20) -> list[psutil.Process]:
    """Those that are still there after some time."""
    return list(psutil.wait_procs(processes, timeout=seconds)[1])


@dataclass
class Served:
    """What one `serve` of the demo said and left."""

    cwd: Path
    checkpoint: Path
    streamed: list[Any] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    status: int | None = None
    left: list[psutil.Process] = field(default_factory=list)

    @property
    def out(self) -> str:
        return (self.cwd / "out.txt").read_text()

    @property
    def err(self) -> str:
        return (self.cwd / "err.txt").read_text()
