"""The process that has imported everything, and forks for each request: see forking.py.

    python tests/fork_server.py ADDRESS LOCK [TESTS…]

It closes the file LOCK when it can be asked. Given tests, it has collected these, and forks their workers.
A request comes over a connection of its own: its length in 8 bytes, with three open files, and it, as JSON:
`words`, `cwd` and `environment`. The answers are lines of JSON: the process's number, and when it has ended
its exit status and the most memory that it had, in bytes.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "alembic.config", "cyclonedx.validation.json", "datasets", "git", "hydra",
    "matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.system_metrics.system_metrics_monitor", "mlflow.tracing.processor.base_mlflow",
    "modelopt.torch.export", "modelopt.torch.quantization", "pydantic", "rich.console", "rich.progress",
    "rich.table", "safetensors.torch", "scipy.io", "scipy.stats", "sqlalchemy.dialects.sqlite", "torch",
    "transformers", "transformers.models.auto.tokenization_auto",
)  # fmt: skip


def serve(address: Path, lock: int, tests: list[str]) -> dict[str, Any]:
    """Fork for each request, until the session has ended. Returns in forked processes, with the request."""
    toolchains = Path(tempfile.mkdtemp())
    if tests:
        collect(tests)
    else:
        prepare(toolchains)
    ended, wake = socket.socketpair()
    ended.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(64)
    Path(f"{address}.new").rename(address)
    os.close(lock)
    running: dict[int, socket.socket] = {}
    while not session_has_ended(address.parent):
        ready = select.select([listener, ended, *running.values()], [], [], 1)[0]
        if ended in ready:
            ended.recv(4096)
        for pid, connection in list(running.items()):
            report(pid, running)
            if pid in running and connection in ready:  # who asked for it has gone
                os.kill(pid, signal.SIGKILL)
        if listener in ready:
            connection = listener.accept()[0]
            request, files = received(connection)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                if not tests:
                    request["environment"]["PROOFCARD_TOOLCHAINS"] = str(toolchains)
                return request | {"files": files}
            for file in files:
                os.close(file)
            running[pid] = connection
            say(connection, pid)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(toolchains)
    shutil.rmtree(address.parent, ignore_errors=True)  # where the session was killed
    sys.exit()


def session_has_ended(folder: Path) -> bool:
    """Whether nobody holds the lock on its file any more."""
    try:
        with (folder / "session").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and its files."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        return json.loads(stream.read(int.from_bytes(size, "big"))), files


def report(pid: int, running: dict[int, socket.socket]) -> None:
    """Tell who asked for a process that it has ended, if it has."""
    found, status, used = os.wait4(pid, os.WNOHANG)
    if found:
        with running.pop(pid) as connection:
            say(connection, [os.waitstatus_to_exitcode(status), 1024 * used.ru_maxrss])


def say(connection: socket.socket, what: object) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any more
        connection.sendall(json.dumps(what).encode() + b"\n")


def prepare(toolchains: Path) -> None:
    """Import and compile; what is ours is as after its import, but for the compiled loops."""
    gc.disable()  # what is imported stays
    from proofcard.toolchain import activate, materialise

    before = list(sys.path)
    activate(materialise("fixed", toolchains))
    import_libraries(LIBRARIES)
    make_tables_once()
    compile_loops()
    for name in [name for name in sys.modules if name.split(".")[0] == "proofcard"]:
        if not name.startswith("proofcard.nvfp4"):
            del sys.modules[name]
    import_ours()
    run_without_data()
    sys.path[:] = before
    settle()
    use_large_pages()


def collect(tests: list[str]) -> None:
    """Import the files of these tests, and libraries; a test may want a ModelOpt of its own."""
    import pytest

    pytest.main(["--collect-only", "--quiet", *tests])
    import_libraries(name for name in LIBRARIES if not name.startswith("modelopt"))
    compile_loops()
    settle()


def import_libraries(names: Iterable[str]) -> None:
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # as proofcard.calibration.sources, before `datasets`
    from proofcard.tracking_store import _OURS

    os.environ |= _OURS  # as ours, before MLflow
    for name in names:
        importlib.import_module(name)


def settle() -> None:
    """Before the first fork: what is here stays, and nothing else runs."""
    gc.collect()
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1, threading.enumerate()


def use_large_pages() -> None:
    """A fork then copies an entry for 2 MiB of memory, not one for 4 KiB. Not every kernel knows how."""
    collapse, size = 25, 1 << 21  # MADV_COLLAPSE, of Linux 6.1
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split()
        if rights == "rw-p" and name in ([], ["[heap]"]):
            first, end = (int(address, 16) // size for address in addresses.split("-"))
            for part in range(first + 1, end):
                ctypes.CDLL(None).madvise(ctypes.c_void_p(part * size), ctypes.c_size_t(size), collapse)


def import_ours() -> None:
    """Every module that can be imported here: some need an extra that is not installed.

    And what reads files that stay as they are: the digests of what decides bytes, uv.lock, a configuration.
    """
    import proofcard

    for found in pkgutil.walk_packages(proofcard.__path__, "proofcard."):
        if not found.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)
    from proofcard import deciding, fingerprint
    from proofcard.config import QuantizeConfig, compose

    fingerprint.packages()
    compose(QuantizeConfig, "config", [])
    for engine in ("layerwise", "modelopt"):
        deciding.digest({*deciding.of_samples(deciding.adapters()), *deciding.of_quantize(engine)})


def run_without_data() -> None:
    """A model as `proofcard.quantize.dry_run` has it: torch's fake tensors are slow the first time."""
    import torch
    import transformers

    from proofcard.quantize import dry_run

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 64}
    config = transformers.LlamaConfig(num_hidden_layers=1, num_key_value_heads=2, **sizes)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    dry_run.check(model.requires_grad_(False).eval(), "")


def make_tables_once() -> None:
    """MLflow makes an SQLite store's tables with every migration that it has had: copy those made here."""
    from mlflow.store.db import utils
    from sqlalchemy import create_engine

    made = sqlite3.connect(":memory:")
    make = utils._initialize_tables

    def copy(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            make(engine)
            return
        with contextlib.closing(engine.raw_connection()) as connection:
            made.backup(connection.driver_connection)

    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/mlflow.db")
        make(engine)
        with contextlib.closing(engine.raw_connection()) as connection:
            connection.driver_connection.backup(made)
        engine.dispose()
    utils._initialize_tables = copy


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
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False  # what it would free is the server's
    np.random.seed()
    torch.default_generator.seed()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["words"]
    if "PYTEST_FORK_SERVER" in os.environ:
        sys.executable = str(Path(os.environ["PYTEST_FORK_SERVER"]).with_name("programs") / "python")
    for number, file in enumerate(request["files"]):
        os.dup2(file, number)
    os.closerange(3, 64)  # the server's connections, and its lock on its copy of ModelOpt


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


def main() -> NoReturn:
    become(serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
    try:
        if sys.argv[0] == "-c":
            exec(sys.argv[1], {"__name__": "__main__", "__builtins__": __builtins__})
        elif sys.argv[0] == "-m":
            del sys.argv[0], sys.path[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(sys.argv[0]).parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
        raise SystemExit
    except SystemExit as stop:
        end(stop)
        raise


if __name__ == "__main__":
    main()
