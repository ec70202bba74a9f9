"""How the processes of a run, started by torchrun, srun or submitit, connect and notice a lost one.

gloo between CPUs, NCCL between GPUs. Ranks wait for each other over gloo alone, whose connections break at
once when a process dies; a machine that stops responding is detected by its missing heartbeat.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from proofcard.errors import Stop, one_line
from proofcard.ranks import Ranks

_PATIENCE = timedelta(hours=2)  # packing and sealing by one rank while the others wait
_MEETING = timedelta(minutes=10)  # until all have connected, and for a reduction once all have reached it
_PULSE = 10.0  # seconds between heartbeats
_MISSED = 30  # missing heartbeats after which a rank counts as lost


def started() -> Ranks:
    """This process's rank according to the environment.

    A shell inside a Slurm allocation is a single process: only a step's tasks are ranks.
    """
    for names in (_TORCH, _SUBMITIT, _SLURM):
        if names[1] in os.environ:
            rank, count, local = (int(os.environ.get(name, "0")) for name in names)
            return Ranks(rank, count, local)
    return Ranks()


_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SUBMITIT = ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID")
_SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The group of processes on a `hardware.device`; nothing is started when there is only one.

    Raises:
        Stop: when the others cannot be reached, or two ranks would share a GPU.
    """
    ranks = started()
    if ranks.count == 1:
        yield ranks
        return
    import torch
    import torch.distributed as dist

    # ModelOpt would reduce over ranks itself if it calibrated, but here it only creates the quantizers.
    warnings.filterwarnings("ignore", "Distributed training is initialized")
    try:
        store = _store(ranks)
        pulse = _Pulse(dist.PrefixStore("pulse", store), ranks)
        dist.init_process_group(
            "gloo",
            store=dist.PrefixStore("group", store),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=_PATIENCE,
        )
        gpus = None
        if device != "cpu" and torch.cuda.is_available():
            _one_gpu_each(ranks)
            gpus = dist.new_group(backend="nccl", timeout=_MEETING)
        aside = dist.new_group(backend="gloo", timeout=_PATIENCE)
        ranks = replace(ranks, gpus=gpus, aside=aside)
    except (RuntimeError, ValueError) as error:
        raise Stop(
            f"rank {ranks.rank} cannot join the other {ranks.count - 1}: {one_line(error)[:200]}"
        ) from None
    try:
        with pulse:
            yield ranks
    finally:
        dist.destroy_process_group()


def _store(ranks: Ranks) -> Any:
    """The store that all ranks can reach before there is a group: torchrun's, or one served by rank 0."""
    import torch.distributed as dist

    url = "env://" if _TORCH[1] in os.environ else f"tcp://{_first_host()}:{_port()}"
    store, _, _ = next(dist.rendezvous(url, ranks.rank, ranks.count, timeout=_MEETING))
    return store


def _first_host() -> str:
    """Where rank 0 runs: MASTER_ADDR, or the first of Slurm's hosts, as in `gpu[003-004,007],login1`."""
    hosts = "" if _SUBMITIT[1] in os.environ else os.environ.get("SLURM_STEP_NODELIST", "")
    first = re.match(r"(?:\[[^]]*\]|[^,\[])*", hosts)
    assert first is not None
    named = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", first[0]) or "127.0.0.1"
    return os.environ.get("MASTER_ADDR", named)


def _port() -> int:
    """MASTER_PORT, or one that all ranks of a job compute alike, below the ephemeral ports."""
    names = ("SUBMITIT_LOCAL_JOB_ID", "SLURM_JOB_ID", "SLURM_STEP_ID")
    job, step = int(os.environ.get(names[0]) or os.environ.get(names[1], "0")), os.environ.get(names[2], "0")
    return int(os.environ.get("MASTER_PORT", 20000 + (31 * job + int(step)) % 10000))


def _one_gpu_each(ranks: Ranks) -> None:
    """Select this rank's GPU: the only visible one, or the one with its local rank."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(ranks.local % torch.cuda.device_count())
    mine = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    taken: list[str] = [""] * ranks.count
    dist.all_gather_object(taken, mine)
    if taken.index(mine) != ranks.rank:
        raise Stop(
            f"rank {ranks.rank} would share a GPU with rank {taken.index(mine)}: start one rank for each GPU"
        )


class _Pulse:
    """A context in which this rank sends heartbeats, and exits when another's are missing.

    A waiting rank is in a call that cannot be interrupted, so the whole process exits.
    """

    def __init__(self, store: Any, ranks: Ranks) -> None:
        """Wait for all ranks in the store. Raises DistStoreError (a RuntimeError) when one is missing."""
        self._store, self._ranks, self._left = store, ranks, Event()
        self._keys = [str(rank) for rank in range(ranks.count)]
        store.set(self._keys[ranks.rank], "0")
        store.wait(self._keys, _MEETING)

    def __enter__(self) -> None:
        Thread(target=self._beat, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def _beat(self) -> None:
        beats, heard = 0, [b""] * self._ranks.count
        missed = [0] * self._ranks.count
        while not self._left.wait(_PULSE):
            beats += 1
            try:
                self._store.set(self._keys[self._ranks.rank], str(beats))
                said = self._store.multi_get(self._keys)
            except RuntimeError:  # the store is gone or slow: no heartbeat received
                said = heard
            for rank, sign in enumerate(said):
                missed[rank] = missed[rank] + 1 if sign == heard[rank] else 0
            heard = said
            missed[self._ranks.rank] = 0
            if max(missed) >= _MISSED and not self._left.is_set():
                print(
                    f"rank {self._ranks.rank} of {self._ranks.count} has had no heartbeat from rank "
                    f"{missed.index(max(missed))} for {_MISSED * _PULSE:.0f} s: its machine or the network "
                    "is lost; the same command resumes after the last complete layer",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                os._exit(1)
