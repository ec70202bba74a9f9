"""Attempts at a run, in forked processes that end badly.

ModelOpt, slow to import, is imported once; and what a run finds out of its source and toolchain, whatever
stands on the disk, is found out once and remembered.

    python tests/quantize/attempts.py ADDRESS OVERRIDES…

ADDRESS is the socket of who asks. Makes what the overrides say, undisturbed, and tells that with a line. Then
reads requests, one a line, as JSON:
`output_dir`, `threads`; `log`, where the attempt's output goes; `die_at`, before which of its orders to the
disk (fsync, rename, unlink) it kills itself, null for never; `power_cut`, whether what no fsync has seen is
lost with it. Answers each with two lines: the attempt's process id, and its exit status when it has ended.
"""

import functools
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proofcard import garbage
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.writer import layout
from proofcard.config import QuantizeConfig, compose
from proofcard.errors import Stop
from proofcard.quantize.command import execute
from proofcard.toolchain import activate, materialise

SHARD = 60_000  # bytes: several shards, and layers that lie in two of them


class Disk:
    """What a power cut would leave of a folder's files: what was there, and what an fsync has seen since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._durable = {path.stat().st_ino: path.read_bytes() for path in self._files()}

    def forced(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.is_file() and path.is_relative_to(self._folder):
            self._durable[path.stat().st_ino] = path.read_bytes()

    def unlinked(self, path: str | Path, dir_fd: int | None = None) -> None:
        self._durable.pop(os.stat(path, dir_fd=dir_fd).st_ino, None)  # another file may get its number

    def lose(self) -> None:
        for path in self._files():
            path.write_bytes(self._durable.get(path.stat().st_ino, b""))

    def _files(self) -> list[Path]:
        return [path for path in self._folder.rglob("*") if path.is_file()]


def die_at(number: int, disk: Disk | None) -> None:
    """Let this process kill itself before its `number`-th order to the disk."""
    left = number

    def counted(order: Callable[..., Any], *values: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            if disk is not None:
                disk.lose()
            os.kill(os.getpid(), signal.SIGKILL)
        if order is unlink and disk is not None and os.path.lexists(values[0]):
            disk.unlinked(*values, **named)
        done = order(*values, **named)
        if order is fsync and disk is not None:
            disk.forced(values[0])
        return done

    fsync, unlink = os.fsync, os.unlink
    for name in ("fsync", "rename", "unlink"):
        setattr(os, name, functools.partial(counted, getattr(os, name)))


def attempt(config: QuantizeConfig, request: dict[str, Any]) -> int:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    output_dir = Path(request["output_dir"])
    hardware = config.hardware.model_copy(update={"threads": request["threads"]})
    config = config.model_copy(update={"output_dir": output_dir, "hardware": hardware})
    if request["die_at"] is not None:
        die_at(request["die_at"], Disk(output_dir.parent) if request["power_cut"] else None)
    try:
        return execute(config)
    except (OSError, Stop) as error:
        print(error, *getattr(error, "__notes__", []), sep="; ")
        return 1


def remember(config: QuantizeConfig) -> None:
    """Let attempts find here what follows from the source and the toolchain alone; it never changes."""
    from proofcard.quantize import planning, preflight
    from proofcard.quantize.layerwise import run

    tools = planning.materialise(config.toolchain.series, config.work_dir / "toolchains")
    assert config.model.path is not None
    source = Source(config.model.path)
    mtp_tensors = preflight.check(config, source, tools)
    structure = run.Structure(source, config, run.skeleton(source, config.model))
    planning.materialise = lambda *_: tools  # type: ignore[assignment]
    preflight.check = lambda *_: mtp_tensors
    run.Structure = lambda *_: structure  # type: ignore[assignment,misc]


def main(address: str, overrides: list[str]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    garbage.look_seldom()
    config = compose(QuantizeConfig, "config", overrides)
    activate(materialise(config.toolchain.series, config.work_dir / "toolchains"))
    from proofcard.quantize.layerwise import run

    run.layout = functools.partial(layout, max_shard_size=SHARD)  # type: ignore[assignment]
    execute(config)  # with one thread nothing is started that a fork would lose
    remember(config)
    gc.collect()
    gc.freeze()  # forked processes share it
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        with connection.makefile("rw") as stream:
            print("made", file=stream, flush=True)
            for line in stream:
                pid = os.fork()
                if pid == 0:
                    status = 99
                    try:
                        status = attempt(config, json.loads(line))
                    finally:
                        sys.stdout.flush()
                        sys.stderr.flush()
                        os._exit(status)
                print(pid, file=stream, flush=True)
                _, status = os.waitpid(pid, 0)
                print(os.waitstatus_to_exitcode(status), file=stream, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
