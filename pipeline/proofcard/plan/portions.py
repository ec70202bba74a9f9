"""Decoder layers shared out over processes: what ModelOpt makes of each portion, put together in order.

ModelOpt inserts its quantizers one by one and looks only at names and types, so layers do not know of each
other. Each process is forked from one that has the whole model, and leaves the layers of the others out.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from proofcard.errors import Stop, one_line

_WORTH = 20_000  # modules for which a process more is sooner than one
_MOST = 4  # processes; each copies what it changes of the model, up to a gigabyte

Portion = dict[str, Any]
"""What was found in some layers, as JSON values. A list in it holds lists that begin with a name."""


def shares(layers: int, modules: int) -> list[range]:
    """The layers of each process: one for all unless the model is large and there are cores."""
    count = min(len(os.sched_getaffinity(0)), _MOST, max(1, modules // _WORTH), max(1, layers))
    return [range(layers * i // count, layers * (i + 1) // count) for i in range(count)]


def each(shared: list[range], look: Callable[[range], Portion]) -> list[Portion]:
    """What `look` finds in each share; in a process of its own each when there are several.

    Raises:
        Stop: as `look`, or when a process ends before it has told anything.
    """
    if len(shared) == 1:
        return [look(shared[0])]
    context = multiprocessing.get_context("fork")
    running = []
    for layers in shared:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_tell, args=(there, look, layers, os.getpid()), daemon=True)
        process.start()
        there.close()
        running.append((process, here))
    try:
        told = [_heard(process, here) for process, here in running]
    finally:
        for process, _ in running:
            process.terminate()
            process.join()
    if stops := [said["stop"] for said in told if "stop" in said]:
        raise Stop(stops[0])
    if unexpected := [said["unexpected"] for said in told if "unexpected" in said]:
        raise RuntimeError(unexpected[0])
    return told


def _tell(there: Connection, look: Callable[[range], Portion], layers: range, parent: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: whatever ends the parent ends this
    if os.getppid() != parent:
        return
    try:
        said = look(layers)
    except Stop as stop:
        said = {"stop": str(stop)}
    except Exception as error:
        said = {"unexpected": f"{one_line(error)}\n{traceback.format_exc()}"}
    there.send_bytes(json.dumps(said).encode())


def _heard(process: Any, here: Connection) -> Portion:
    try:
        said: Portion = json.loads(here.recv_bytes())
    except EOFError:
        process.join()
        raise Stop(
            f"a process that counted a part of the layers has ended with status {process.exitcode}: memory "
            "may have run out (dmesg says so); end other programs, or use a larger machine"
        ) from None
    return said


def in_order(portions: Iterable[list[list[Any]]], layers: str) -> Iterator[list[Any]]:
    """Lists that begin with a name, in the whole model's order; what is in none of its `layers` comes once.

    Each portion has its own layers one after another, between what comes before and after the decoder's.
    """
    inside = layers + "."
    first, *others = [list(portion) for portion in portions]
    ends = [i + 1 for i, (name, *_) in enumerate(first) if name.startswith(inside)]
    cut = ends[-1] if ends else len(first)
    yield from first[:cut]
    for portion in others:
        yield from (said for said in portion if said[0].startswith(inside))
    yield from first[cut:]
