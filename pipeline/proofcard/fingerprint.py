"""What a run depends on: locked packages, the environment they came from, and the numeric platform."""

import json
import os
import platform
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from proofcard.bundle import bundled
from proofcard.digest import sha256_file
from proofcard.errors import Stop


def packages(*names: str) -> dict[str, str]:
    """Installed versions of the packages that decide bytes, each checked against `uv.lock`.

    Raises:
        Stop: when one is missing or not at its locked version.
    """
    locked = _locked_versions()
    found = {}
    for name in names:
        try:
            found[name] = _installed(name)
        except PackageNotFoundError:
            raise Stop(f"{name} is not installed: run `uv sync --frozen --extra quantize`") from None
        if found[name] not in locked[name]:
            wanted = " or ".join(sorted(locked[name]))
            raise Stop(
                f"{name} {found[name]} is installed, but uv.lock pins {wanted}: run `uv sync --frozen`"
            )
    return found


_installed = cache(version)  # it reads a file each time


@cache
def _locked_versions() -> dict[str, set[str]]:
    locked: dict[str, set[str]] = {}
    for package in tomllib.loads(bundled("uv.lock").read_text())["package"]:
        locked.setdefault(package["name"], set()).add(package["version"])
    return locked


def lock_digest() -> str:
    """Hex sha256 of `uv.lock`."""
    return sha256_file(bundled("uv.lock"))


def environment() -> dict[str, Any]:
    """`{"environment": …}` in the flake's programs, its inputs and derivation; in an image, its revision.

    It records where the packages came from. It affects no byte, so it is not part of any key.
    """
    revision = os.environ.get("PROOFCARD_REVISION", "unknown")
    if "PROOFCARD_FLAKE_DERIVATION" not in os.environ:
        return {"environment": {"revision": revision}} if revision != "unknown" else {}
    return {
        "environment": {
            "derivation": os.environ["PROOFCARD_FLAKE_DERIVATION"],
            "inputs": json.loads(os.environ["PROOFCARD_FLAKE_INPUTS"]),
        }
    }


def choose_device(asked: str) -> str:
    """`cpu` or `cuda`, depending on what was requested and what is available.

    Raises:
        Stop: when CUDA is requested but not available.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise Stop("hardware.device=cuda, but torch finds no CUDA device: use hardware=cpu")
    return "cuda" if has_gpu and asked != "cpu" else "cpu"


def numeric_platform(device: str) -> dict[str, Any]:
    """What may change the last bits of a calibration: processor, libraries, threads, settings."""
    import torch

    said: dict[str, Any] = {
        "device": device,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": _instructions(),
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device == "cuda":
        said |= {
            "gpu": torch.cuda.get_device_name(),
            "compute_capability": list(torch.cuda.get_device_capability()),
            "cuda": torch.version.cuda,
            "cublas": version("nvidia-cublas"),
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    return said


def _instructions() -> list[str]:
    """Vector and matrix extensions of the processor, which determine the kernels of BF16 products."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = next(line for line in cpuinfo.splitlines() if line.startswith("flags")).split()
    return sorted(flag for flag in flags if flag.startswith(("avx", "amx", "fma")))


def _driver() -> str:
    import pynvml

    pynvml.nvmlInit()
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()
