"""Collective operations of the processes of a run: reductions, shares, waiting. No-ops for one process.

Only exact reductions are offered: maxima, and sums of integers. Between CPUs they go over gloo, between GPUs
over NCCL. How the processes connect is in `joining`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proofcard.errors import Stop, one_line


@dataclass(frozen=True)
class Ranks:
    """This process among `count`, led by `rank` 0; `local` is its rank on its machine.

    `gpus` is the group that reduces GPU tensors, if there are GPUs, and `aside` one over gloo for a thread.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    gpus: Any = None
    aside: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process prints, tracks and seals."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """This rank's share of `total` items: every `count`-th."""
        return range(self.rank, total, self.count)

    def wait(self) -> None:
        """Wait until every rank has called this."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            self._together(lambda: dist.all_reduce(torch.zeros(1)))

    def first_fault(self, mine: str | None) -> str | None:
        """The message of the lowest rank that has one, the same on every rank."""
        if self.count == 1:
            return mine
        import torch.distributed as dist

        said: list[str | None] = [None] * self.count
        self._together(lambda: dist.all_gather_object(said, mine))
        return next((fault for fault in said if fault is not None), None)

    def largest(self, values: Any) -> None:
        """Replace a float tensor, in place, by the element-wise maximum over ranks. NaN stays NaN."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            lost = torch.isnan(values).to(torch.int32)
            self._reduce(values.nan_to_num_(0.0, float("inf"), -float("inf")), dist.ReduceOp.MAX)
            self._reduce(lost, dist.ReduceOp.MAX)
            values[lost.bool()] = float("nan")

    def largest_aside(self, values: Any) -> None:
        """As `largest`, of a CPU tensor without NaN, from a thread of its own beside the others' calls."""
        import torch.distributed as dist

        self._together(lambda: dist.all_reduce(values, dist.ReduceOp.MAX, group=self.aside))

    def total(self, counts: Any) -> None:
        """Replace an integer tensor, in place, by its sum over ranks."""
        if self.count > 1:
            import torch.distributed as dist

            self._reduce(counts, dist.ReduceOp.SUM)

    def _reduce(self, values: Any, operation: Any) -> None:
        import torch.distributed as dist

        self.wait()  # NCCL would not notice a lost rank
        group = self.gpus if values.is_cuda else None
        self._together(lambda: dist.all_reduce(values, operation, group=group))

    def _together(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
        except RuntimeError as error:
            raise Stop(
                f"rank {self.rank} of {self.count} lost another rank ({one_line(error)[:200]}): look at the "
                "rank that ended first and fix its cause: the same command resumes after the last complete "
                "layer"
            ) from None
