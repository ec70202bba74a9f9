"""Python programs in forked processes: what our commands import and compile, slowly, is there already.

    python tests/forking.py         # the server that `run` starts: takes requests, one a line, as JSON

A program finds here what a process of its own would give it: arguments, folder, environment, standard files,
`proofcard` still to be imported, an interpreter that ends as always. It shares with the others the libraries
as imported, ModelOpt with the series `fixed`, the compiled loops of `proofcard.nvfp4` and the seed of hashes.
What is about one of these or about a launcher needs a process of its own. The most memory that a program had
counts what it shares, too.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import hung

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "datasets", "hydra", "matplotlib.figure", "modelopt.torch.export", "modelopt.torch.quantization",
    "pydantic", "rich.console", "rich.progress", "rich.table", "safetensors.torch", "torch", "transformers",
)  # fmt: skip
FREE = (
    "COLUMNS", "GIT_PYTHON_", "MLFLOW_", "_MLFLOW_", "PYTEST_",  # read by nothing above
    "MASTER_", "RANK", "SLURM_", "SUBMITIT_", "WORLD_SIZE",  # read when ranks join
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR",  # torch itself sets them
    "CUBLAS_WORKSPACE_CONFIG", "HF_MODULES_CACHE", "HF_UPDATE_DOWNLOAD_COUNTS",  # ours sets them
    "HF_TOKEN",  # read when it is needed
)  # fmt: skip
"""How variables begin that may differ from program to program."""
# Several commands run side by side here: a thread that waits for another one sleeps instead of spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
_started_with = dict(os.environ)
_settings: list[dict[str, str]] = [{}]


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
    names = {name for name in environment.keys() | imported_with.keys() if not name.startswith(FREE)}
    return all(environment.get(name) == imported_with.get(name) for name in names)


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
        self._folder = tempfile.TemporaryDirectory()
        files = {name: f"{self._folder.name}/{name}" for name in ("stdout", "stderr")}
        self._server = Server.of(_settings_of(environment))
        self.pid = self._server.ask(files | {"words": words, "cwd": str(cwd), "environment": environment})
        hung.watch(self)

    def poll(self) -> int | None:
        if self.returncode is None and (ended := self._server.ask({"poll": self.pid})):
            self.returncode, self.peak = ended
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and standard error, when it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        out, err = (Path(self._folder.name, name).read_text() for name in ("stdout", "stderr"))
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


class Server:
    """The process that has imported everything, with some settings."""

    _running: ClassVar[dict[str, "Server"]] = {}

    @classmethod
    def of(cls, settings: dict[str, str]) -> "Server":
        known = json.dumps(settings, sort_keys=True)
        if known not in cls._running:
            cls._running[known] = cls(settings)
        return cls._running[known]

    def __init__(self, settings: dict[str, str]) -> None:
        out = subprocess.PIPE
        words = [sys.executable, __file__]
        environment = _started_with | settings | {"PYTHONFAULTHANDLER": "1"}  # see tests/hung.py
        self._process = subprocess.Popen(words, text=True, env=environment, stdin=out, stdout=out)
        atexit.register(self._process.communicate)

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
            assert answer, "the server of tests/forking.py has ended"
        except BaseException:  # an answer may still come: to nobody
            Server._running = {name: one for name, one in Server._running.items() if one is not self}
            raise
        return json.loads(answer)


def serve() -> dict[str, Any]:
    """Fork for each request, until there is none; returns in the forked processes, with the request."""
    toolchains = Path(tempfile.mkdtemp())
    prepare(toolchains)
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if "poll" in request:
            pid, status, used = os.wait4(request["poll"], os.WNOHANG)
            ended = (os.waitstatus_to_exitcode(status), 1024 * used.ru_maxrss) if pid else None
            print(json.dumps(ended), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            request["environment"]["PROOFCARD_TOOLCHAINS"] = str(toolchains)
            return request
        print(pid, flush=True)
    shutil.rmtree(toolchains)
    sys.exit()


def prepare(toolchains: Path) -> None:
    """Import and compile; forget what is ours, but for the compiled loops."""
    gc.disable()  # what is imported stays
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # as proofcard.calibration.sources, before `datasets`
    from proofcard.toolchain import activate, materialise

    before = list(sys.path)
    activate(materialise("fixed", toolchains))
    with contextlib.redirect_stdout(sys.stderr):
        for name in LIBRARIES:
            importlib.import_module(name)
    sys.path[:] = before
    compile_loops()
    for name in [name for name in sys.modules if name.split(".")[0] == "proofcard"]:
        if not name.startswith("proofcard.nvfp4"):
            del sys.modules[name]
    gc.collect()
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1, threading.enumerate()


def compile_loops() -> None:
    """Call each once."""
    import numpy as np

    from proofcard import nvfp4

    codes, scale = np.full((16, 16), 0x38, np.uint8), np.ones((1, 1), np.float32)
    bits = nvfp4.fp8_block_to_bf16(codes, scale)
    nvfp4.amax(bits)
    nvfp4.amax_fp8(codes, scale)
    nvfp4.quantize_fp8(codes, scale, 1.0, unrounded_scales=True)
    nvfp4.dequantize(*nvfp4.quantize(bits, 1.0), 1.0)


_SIGNALS = {  # where the tests run in the background, they ignore the first two, and so does the server
    signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL, signal.SIGTERM: signal.SIG_DFL,
}  # fmt: skip


def become(request: dict[str, Any]) -> None:
    """What a new process has."""
    import numpy as np
    import torch

    for number, action in _SIGNALS.items():
        signal.signal(number, action)
    np.random.seed()
    torch.default_generator.seed()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["words"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    os.closerange(3, 64)  # the server's lock on its copy of ModelOpt
    for number, name in enumerate((os.devnull, request["stdout"], request["stderr"])):
        handle = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(handle, number)
        os.close(handle)


def end(stop: SystemExit) -> None:
    """What an interpreter does before it frees memory; that would copy all that this process shares.

    Returns where output cannot be written: the interpreter ends as it always does, then.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    try:
        if stop.code is not None and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return
    os._exit(0 if stop.code is None else stop.code & 0xFF if isinstance(stop.code, int) else 1)


if __name__ == "__main__":
    asked = serve()
    become(asked)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        raise SystemExit
    except SystemExit as stop:
        end(stop)
        raise
