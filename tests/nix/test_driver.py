"""nix/driver.sh: the host's driver, and nothing else of the host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT


def sourced(tmp_path: Path, driver: Path | None) -> dict[str, str]:
    """What is set after the script was sourced by a strict shell; without `driver` it looks for itself."""
    told = {} if driver is None else {"PROOFCARD_DRIVER": str(driver)}
    said = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {ROOT}/nix/driver.sh; env -0"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | told,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return dict(line.split("=", 1) for line in said.split("\0") if line)


def test_the_driver_of_any_distribution_is_found_and_nothing_beside_it(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    for name in ("libcuda.so.1", "libcuda.so.570.1", "libnvidia-ml.so.1", "libc.so.6", "libstdc++.so.6"):
        (host / name).touch()
    for _ in range(2):  # the second finds its links in place
        said = sourced(tmp_path, host)
    links = Path(said["LD_LIBRARY_PATH"])
    assert {path.name for path in links.iterdir()} == {
        "libcuda.so.1",
        "libcuda.so.570.1",
        "libnvidia-ml.so.1",
    }
    assert (links / "libcuda.so.1").resolve() == host / "libcuda.so.1"
    assert said["TRITON_LIBCUDA_PATH"] == str(links)


def test_without_a_driver_nothing_is_set(tmp_path: Path) -> None:
    assert not sourced(tmp_path, tmp_path / "none").keys() & {"LD_LIBRARY_PATH", "TRITON_LIBCUDA_PATH"}
    assert not (tmp_path / ".cache").exists()


@pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists(), reason="NOT CHECKED HERE: it needs a machine with NVIDIA's driver"
)
def test_the_real_driver_answers_through_its_links(tmp_path: Path) -> None:
    """cuInit and the count of devices, from the library of that folder and no other."""
    script = (
        "import ctypes\n"
        "cuda, count = ctypes.CDLL('libcuda.so.1'), ctypes.c_int()\n"
        "assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0\n"
        "ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2()\n"
        "print(count.value, {line.split()[-1] for line in open('/proc/self/maps') if 'libcuda.so' in line})\n"
    )
    said = sourced(tmp_path, None)
    links = Path(said["LD_LIBRARY_PATH"])
    out = subprocess.run(
        [sys.executable, "-c", script], env=said, capture_output=True, text=True, check=True
    ).stdout
    assert int(out.split()[0]) >= 1
    assert str((links / "libcuda.so.1").resolve()) in out
