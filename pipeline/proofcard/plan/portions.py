"""Distributes decoder layers over processes, and merges what ModelOpt does with each portion, in order.

ModelOpt inserts its quantizers one by one and looks only at names and types, so layers do not know of each
other. Each process is forked from one with the whole model, and drops the layers of the others.
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

_WORTH = 20_000  # modules that make another process worthwhile
_MOST = 4  # processes; each copies the parts of the model that it changes, up to a gigabyte

Portion = dict[str, Any]
"""The results for some layers, as JSON values. Its lists contain lists that start with a name."""


def shares(layers: int, modules: int) -> list[range]:
    """The layers of each process: a single one unless the model is large and cores are available."""
    count = min(len(os.sched_getaffinity(0)), _MOST, max(1, modules // _WORTH), max(1, layers))
    return [range(layers * i // count, layers * (i + 1) // count) for i in range(count)]


def each(shared: list[range], look: Callable[[range], Portion]) -> list[Portion]:
    """The results of `look` for each share, in separate processes if there are several.

    Raises:
        Stop: as `look`, or when a process ends without a result.
    """
    if len(shared) == 1:
        return [look(shared[0])]
    context = multiprocessing.get_context("fork")
    running = []
    for layers in shared:
        parent_end, child_end = context.Pipe(duplex=False)
        process = context.Process(target=_tell, args=(child_end, look, layers, os.getpid()), daemon=True)
        process.start()
        child_end.close()
        running.append((process, parent_end))
    try:
        results = [_received(process, parent_end) for process, parent_end in running]
    finally:
        for process, _ in running:
            process.terminate()
            process.join()
    if stops := [result["stop"] for result in results if "stop" in result]:
        raise Stop(stops[0])
    if unexpected := [result["unexpected"] for result in results if "unexpected" in result]:
        raise RuntimeError(unexpected[0])
    return results


def _tell(child_end: Connection, look: Callable[[range], Portion], layers: range, parent: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: killed when the parent ends
    if os.getppid() != parent:
        return
    try:
        result = look(layers)
    except Stop as stop:
        result = {"stop": str(stop)}
    except Exception as error:
        result = {"unexpected": f"{one_line(error)}\n{traceback.format_exc()}"}
    child_end.send_bytes(json.dumps(result).encode())


def _received(process: Any, parent_end: Connection) -> Portion:
    try:
        result: Portion = json.loads(parent_end.recv_bytes())
    except EOFError:
        process.join()
        raise Stop(
            f"a process that counted some of the layers ended with status {process.exitcode}: memory "
            "may have run out (see dmesg); stop other programs, or use a larger machine"
        ) from None
    return result


def in_order(portions: Iterable[list[list[Any]]], layers: str) -> Iterator[list[Any]]:
    """Lists that start with a name, in the whole model's order; entries outside its `layers` occur once.

    Each portion has its own layers in sequence, between what precedes and follows the decoder's layers.
    """
    inside = layers + "."
    first, *others = [list(portion) for portion in portions]
    ends = [i + 1 for i, (name, *_) in enumerate(first) if name.startswith(inside)]
    cut = ends[-1] if ends else len(first)
    yield from first[:cut]
    for portion in others:
        yield from (result for result in portion if result[0].startswith(inside))
    yield from first[cut:]
