"""The GPUs of this machine according to nvidia-smi, without torch."""

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
    """`capability` is 120 for SM120, `memory_mib` what the driver reports, `used_mib` is in use by others."""

    name: str
    capability: int
    memory_mib: int
    used_mib: int = 0


@dataclass(frozen=True)
class Machine:
    """The GPUs that an engine can use. `driver` is NVIDIA's driver version, or None."""

    gpus: tuple[Gpu, ...]
    driver: str | None


def machine(environment: Mapping[str, str]) -> Machine:
    """This machine, with the GPUs and their order according to `CUDA_VISIBLE_DEVICES`."""
    try:
        result = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=60, check=False, env=children.environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Machine((), None)
    if result.returncode:
        return Machine((), None)
    return read(
        result.stdout, environment.get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    )


def read(table: str, visible: str | None) -> Machine:
    """Parse nvidia-smi's output, one line per GPU: index, uuid, name, 12.0, MiB, MiB used, driver."""
    lines = list(csv.reader(table.splitlines(), skipinitialspace=True))
    driver = lines[0][6] if lines else None
    by_name: dict[str, Gpu] = {}
    for index, uuid, name, capability, memory, used, _ in lines:
        if not re.fullmatch(r"\d+\.\d", capability) or not memory.isdigit():
            continue  # "[N/A]": a GPU that cannot be queried cannot be used
        gpu = Gpu(name, int(capability.replace(".", "")), int(memory), int(used) if used.isdigit() else 0)
        by_name[index] = by_name[uuid] = gpu
    if visible is None:
        return Machine(tuple(gpu for key, gpu in by_name.items() if key.isdigit()), driver)
    ordered = []
    for word in visible.split(","):
        match = next(
            (gpu for key, gpu in by_name.items() if key == word or key.startswith(word or " ")), None
        )
        if match is None:
            break  # as in CUDA: devices after an invalid one are invisible
        ordered.append(match)
    return Machine(tuple(ordered), driver)
