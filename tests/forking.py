"""Python programs in forked processes: what our commands import and compile, slowly, is there already.

A program finds here what a process of its own would give it: arguments, folder, environment, standard files,
an interpreter that ends as always. It shares with the others the libraries and `proofcard` as imported,
ModelOpt with the series `fixed`, the compiled loops of `proofcard.nvfp4`, the tables of a new MLflow store
and the seed of hashes. What is about one of these or about a launcher needs a process of its own. The most
memory that a program had counts what it shares, too.

The processes that have imported everything, `fork_server.py`, serve all workers of a session.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import hung
from fork_shim import asked

FREE = (
    "COLUMNS", "LINES", "GIT_PYTHON_", "MLFLOW_", "_MLFLOW_", "PYTEST_",  # none read on import, but _READ
    "MASTER_", "RANK", "SLURM_", "SUBMITIT_", "WORLD_SIZE",  # read when ranks join
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR",  # torch itself sets them
    "CUBLAS_WORKSPACE_CONFIG", "HF_MODULES_CACHE", "HF_UPDATE_DOWNLOAD_COUNTS",  # ours sets them
    "HF_TOKEN",  # read when it is needed
)  # fmt: skip
"""How variables begin that may differ from program to program."""
_READ = ("MLFLOW_CONFIGURE_LOGGING", "MLFLOW_LOGGING_LEVEL")
_FOLDER = "PYTEST_FORK_SERVERS"
"""The variable with a session's folder; whose it is holds a lock on the file `session` in it."""
# Several commands run side by side here: a thread that waits for another one sleeps instead of spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
_started_with = dict(os.environ)
_settings: list[dict[str, str]] = [{}]
_session: list[TextIO] = []


def serve_with(settings: dict[str, str]) -> None:
    """Have a server for programs that find these variables besides: for what libraries read when imported.

    It is started when the first such program is.
    """
    if settings not in _settings:
        _settings.append(settings)


def alike(environment: dict[str, str]) -> bool:
    """Whether what is imported with this environment is what its server has imported with its own.

    Never where there is a GPU: CUDA does not work in a process that was forked.
    """
    if Path("/dev/nvidiactl").exists():
        return False
    imported_with = _started_with | _settings_of(environment)
    names = environment.keys() | imported_with.keys()
    decide = {name for name in names if name in _READ or not name.startswith(FREE)}
    return all(environment.get(name) == imported_with.get(name) for name in decide)


def _settings_of(environment: dict[str, str]) -> dict[str, str]:
    """Those that a server was asked for and that are all here; none is the least."""
    return max((known for known in _settings if known.items() <= environment.items()), key=len)


class Forked:
    """A Python program that runs, its output captured; as much of `subprocess.Popen` as the tests use."""

    def __init__(self, words: list[str], cwd: Path, environment: dict[str, str]) -> None:
        """The environment has to be `alike`."""
        self.args = words
        self.returncode: int | None = None
        self.peak = 0
        """The most memory that it had, in bytes; known when it has ended."""
        self._outputs = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        address = _server(_settings_of(environment))
        with Path(os.devnull).open() as nothing:
            files = [nothing.fileno(), *(file.fileno() for file in self._outputs)]
            self._server = asked(str(address), words, str(cwd), environment, files)
        self._answers = self._server.makefile()
        self.pid: int = json.loads(self._answers.readline())
        hung.watch(self)

    def poll(self) -> int | None:
        return self._wait(0)

    def _wait(self, seconds: float | None) -> int | None:
        """Its exit status, as soon as it has one and at most so many seconds later."""
        if self.returncode is None:
            self._server.settimeout(seconds)
            try:
                self._server.recv(1, socket.MSG_PEEK)
            except (TimeoutError, BlockingIOError):
                return None
            self._server.settimeout(None)
            line = self._answers.readline()
            assert line, "the server of tests/forking.py has ended"
            self.returncode, self.peak = json.loads(line)
            self._answers.close()
            self._server.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and standard error, when it has ended."""
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        for file in self._outputs:
            file.seek(0)
        out, err = (file.read() for file in self._outputs)
        return out, err


def run(words: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`."""
    process = Forked(words, cwd, environment)
    try:
        out, err = process.communicate()
    except KeyboardInterrupt:  # when a test fails, tests/hung.py ends it
        process.kill()
        raise
    assert process.returncode is not None
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def by_name(environment: dict[str, str]) -> dict[str, str]:
    """Variables with which a shell or a launcher, and what it starts, finds `proofcard` forked: fork_shim.py.

    `environment` is what they have besides, `PATH` included; see `serve_with`.
    """
    address = _server(_settings_of(environment))
    path = f"{_programs()}:{environment['PATH']}"
    return environment | {"PYTEST_FORK_SERVER": str(address), "PATH": path}


def begin() -> None:
    """Make the folder of this session's servers: in its first process, before any other is started.

    Whatever has ended this process, its servers end, and all that they have forked.
    """
    if _FOLDER not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="forking-"))
        _session.append((folder / "session").open("w"))
        fcntl.flock(_session[0], fcntl.LOCK_EX)
        os.environ[_FOLDER] = str(folder)
        programs = folder / "programs"
        programs.mkdir()
        shim = Path(__file__).with_name("fork_shim.py").read_text()
        for name in ("proofcard", "python", "worker"):
            (programs / name).write_text(f"#!{sys.executable} -IS\n{shim}")
            (programs / name).chmod(0o755)


def worker(tests: list[str]) -> str:
    """What xdist is to start instead of Python: workers forked from a process that has collected the tests.

    The server for programs, which they will ask for, is prepared meanwhile.
    """
    _start_for({})
    _wait(_start(Path(os.environ[_FOLDER], "workers"), {}, *tests))
    return str(_programs() / "worker")


def end() -> None:
    """Remove it, where it was made."""
    if _session:
        shutil.rmtree(os.environ.pop(_FOLDER))
        _session.pop().close()


def _programs() -> Path:
    return Path(os.environ[_FOLDER], "programs")


def _server(settings: dict[str, str]) -> Path:
    """The address of the server with these settings; the first that asks for it starts it."""
    return _wait(_start_for(settings))


def _start_for(settings: dict[str, str]) -> Path:
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    stacks = {"PYTHONFAULTHANDLER": "1"}  # see tests/hung.py
    return _start(Path(os.environ[_FOLDER], name), settings | stacks)


def _start(address: Path, settings: dict[str, str], *tests: str) -> Path:
    """Start a server, if nobody has; it holds the lock on a file until it can be asked."""
    with address.with_suffix(".lock").open("w") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not address.exists():
            program = Path(__file__).with_name("fork_server.py")
            with _said(address).open("w") as said:
                subprocess.Popen(
                    [sys.executable, program, address, str(lock.fileno()), *tests],
                    env=_started_with | settings, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                    start_new_session=True, pass_fds=[lock.fileno()],
                )  # fmt: skip
    return address


def _wait(address: Path) -> Path:
    with address.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert address.exists(), f"the server of tests/forking.py has ended: {_said(address).read_text()}"
    return address


def _said(address: Path) -> Path:
    return address.with_suffix(".log")
