"""The processes that share a run, as torchrun or Slurm starts them: one, unless WORLD_SIZE says more.

gloo between CPUs, NCCL between GPUs. Only exact reductions are offered: maxima, and sums of integers.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pipeline.errors import Stop, one_line

_PATIENCE = timedelta(hours=2)  # packing and sealing by one rank while the others wait


@dataclass(frozen=True)
class Ranks:
    """This process among `count`, `rank` 0 leading; `local` is its place on its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process speaks, tracks and seals."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """This rank's part of `total` things: every `count`-th."""
        return range(self.rank, total, self.count)

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.count > 1:
            import torch.distributed as dist

            self._together(lambda: dist.barrier())

    def largest(self, values: Any) -> None:
        """Replace a tensor, in place, by the element-wise maximum over ranks. NaN stays NaN."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            lost = torch.isnan(values)
            self._together(lambda: dist.all_reduce(values.nan_to_num_(nan=float("inf")), dist.ReduceOp.MAX))
            values[lost] = float("nan")

    def total(self, counts: Any) -> None:
        """Replace an integer tensor, in place, by its sum over ranks."""
        if self.count > 1:
            import torch.distributed as dist

            self._together(lambda: dist.all_reduce(counts, dist.ReduceOp.SUM))

    def _together(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
        except RuntimeError as error:
            raise Stop(
                f"rank {self.rank} of {self.count} lost another rank ({one_line(error)[:200]}): look at the "
                "rank that ended first; the same command goes on after the last complete layer"
            ) from None


def started() -> Ranks:
    """What the environment says that this process is."""
    said = {name: int(os.environ.get(name, str(default))) for name, default in _VARIABLES.items()}
    return Ranks(said["RANK"], said["WORLD_SIZE"], said["LOCAL_RANK"])


_VARIABLES = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The group of processes on a `hardware.device`; nothing is started when there is only one.

    Raises:
        Stop: when the others cannot be reached, or there are more ranks than GPUs on this machine.
    """
    ranks = started()
    if ranks.count == 1:
        yield ranks
        return
    import torch
    import torch.distributed as dist

    gpus = device != "cpu" and torch.cuda.is_available()
    if gpus:
        if ranks.local >= torch.cuda.device_count():
            raise Stop(f"{torch.cuda.device_count()} GPUs here, and rank {ranks.local} wants another: one rank a GPU")
        torch.cuda.set_device(ranks.local)
    try:
        dist.init_process_group("nccl" if gpus else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise Stop(f"rank {ranks.rank} cannot join the other {ranks.count - 1}: {one_line(error)[:200]}") from None
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
