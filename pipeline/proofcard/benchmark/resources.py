"""What the server takes of this machine while it is measured: memory of its processes, and of its GPUs."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import psutil

from proofcard.serve import address

_EVERY_S = 0.5
_NEAR_S = 2.0  # a level shorter than a look is told of by the nearest one
_GIB = 2**30


@dataclass(frozen=True)
class _Sample:
    at: float
    rss: int
    gpu: int | None
    watts: float | None


class Watch:
    """A context that looks at a process, all below it, and the GPUs they use, twice a second.

    `absent` says in words what cannot be seen here.
    """

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._samples: list[_Sample] = []
        self._end = threading.Event()
        self._gpus = _Gpus() if pid is not None else None
        self.absent = "the server's processes are not known here" if pid is None else ""
        if self._gpus is not None and not self._gpus.handles:
            self.absent = "no NVIDIA GPU was seen here"

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look, daemon=True)
        if self._pid is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._pid is not None:
            self._thread.join()

    def between(self, start: float, end: float) -> dict[str, float]:
        """Peaks of memory in GiB and mean power in watts, between two times of the clock; what is known."""
        samples = self._samples.copy()
        seen = [each for each in samples if start <= each.at <= end]
        if not seen and samples:
            nearest = min(samples, key=lambda each: max(start - each.at, each.at - end))
            seen = [nearest] if start - _NEAR_S <= nearest.at <= end + _NEAR_S else []
        found: dict[str, float] = {}
        if seen:
            found["rss_gib"] = max(each.rss for each in seen) / _GIB
        if memory := [each.gpu for each in seen if each.gpu is not None]:
            found["gpu_gib"] = max(memory) / _GIB
        if power := [each.watts for each in seen if each.watts is not None]:
            found["gpu_watts"] = sum(power) / len(power)
        return found

    def _look(self) -> None:
        assert self._pid is not None and self._gpus is not None
        while not self._end.wait(_EVERY_S):
            try:
                top = psutil.Process(self._pid)
                processes = [top, *top.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            rss = sum(map(_rss, processes))
            gpu, watts = self._gpus.taken({process.pid for process in processes})
            self._samples.append(_Sample(time.time(), rss, gpu, watts))


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


class _Gpus:
    """The GPUs of this machine, if the driver's library tells of any."""

    def __init__(self) -> None:
        self.handles: list[Any] = []
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self.handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        except Exception:  # no library, no driver, no device: each has its own exception
            pass

    def taken(self, processes: set[int]) -> tuple[int | None, float | None]:
        """Bytes in use and watts drawn, of the GPUs these processes compute on; of all, where none is seen.

        A container hides the numbers by which the driver knows processes.
        """
        if not self.handles:
            return None, None
        nvml = self._nvml
        try:
            used = [gpu for gpu in self.handles if processes & self._on(gpu)] or self.handles
            memory = sum(int(nvml.nvmlDeviceGetMemoryInfo(gpu).used) for gpu in used)
        except nvml.NVMLError:
            return None, None
        try:
            return memory, sum(nvml.nvmlDeviceGetPowerUsage(gpu) for gpu in used) / 1000
        except nvml.NVMLError:
            return memory, None

    def _on(self, gpu: Any) -> set[int]:
        return {process.pid for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu)}


def listener(url: str) -> int | None:
    """The process that listens at an address of loopback, if it can be seen."""
    at = urlsplit(url)
    if at.port is None or not address.is_loopback(at.hostname or ""):
        return None
    return address.listener(at.port)
