"""The GPUs at hand, as the driver's own tool tells of them, without torch."""

import csv
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from proofcard import children

_QUERY = "index,uuid,name,compute_cap,memory.total,memory.used,driver_version"


@dataclass(frozen=True)
class Gpu:
    """`capability` is 120 for SM120, `memory_mib` what the driver reports, `used_mib` what others have."""

    name: str
    capability: int
    memory_mib: int
    used_mib: int = 0


@dataclass(frozen=True)
class Machine:
    """What an engine could use. `driver` is NVIDIA's version, None without one."""

    gpus: tuple[Gpu, ...]
    driver: str | None


def machine(environment: Mapping[str, str]) -> Machine:
    """This machine, its GPUs as `CUDA_VISIBLE_DEVICES` of the environment leaves and orders them."""
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=60, check=False, env=children.environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Machine((), None)
    if told.returncode:
        return Machine((), None)
    return read(told.stdout, environment.get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")))


def read(table: str, visible: str | None) -> Machine:
    """What nvidia-smi printed, one line a GPU: index, uuid, name, 12.0, MiB, MiB used, driver."""
    lines = list(csv.reader(table.splitlines(), skipinitialspace=True))
    driver = lines[0][6] if lines else None
    found: dict[str, Gpu] = {}
    for index, uuid, name, capability, memory, used, _ in lines:
        if not re.fullmatch(r"\d+\.\d", capability) or not memory.isdigit():
            continue  # "[N/A]": a GPU that cannot be asked cannot be used
        gpu = Gpu(name, int(capability.replace(".", "")), int(memory), int(used) if used.isdigit() else 0)
        found[index] = found[uuid] = gpu
    if visible is None:
        return Machine(tuple(gpu for key, gpu in found.items() if key.isdigit()), driver)
    chosen = []
    for word in visible.split(","):
        seen = next((gpu for key, gpu in found.items() if key == word or key.startswith(word or " ")), None)
        if seen is None:
            break  # as CUDA: what follows an invalid one is not seen
        chosen.append(seen)
    return Machine(tuple(chosen), driver)
