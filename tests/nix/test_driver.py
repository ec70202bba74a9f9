"""nix/driver.sh: the host's driver, and nothing else of the host."""

import os
import subprocess
from pathlib import Path

from running import ROOT


def sourced(tmp_path: Path, driver: Path) -> dict[str, str]:
    """What is set after the script was sourced by a strict shell."""
    said = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {ROOT}/nix/driver.sh; env -0"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PROOFCARD_DRIVER": str(driver)},
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
