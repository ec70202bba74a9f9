"""The GPUs at hand, as the driver's own tool lists them and CUDA would order them."""

from pathlib import Path

import pytest

from proofcard.gpus import Machine, machine, read
from proofcard.plan import serving_memory

TABLE = """\
0, GPU-aaaa, NVIDIA RTX PRO 6000 Blackwell Workstation Edition, 12.0, 97887, 3, 580.95.05
1, GPU-bbbb, NVIDIA H100 80GB HBM3, 9.0, 81559, 70000, 580.95.05
2, GPU-cccc, NVIDIA GeForce GT 710, [N/A], [N/A], [N/A], 580.95.05
"""


@pytest.mark.parametrize(
    ("visible", "capabilities"),
    [
        (None, [120, 90]),
        ("1", [90]),
        ("1,0", [90, 120]),
        ("GPU-bb", [90]),
        ("", []),
        ("0,7,1", [120]),
        ("-1", []),
    ],
)
def test_the_driver_s_table_is_read_as_cuda_would(visible: str | None, capabilities: list[int]) -> None:
    found = read(TABLE, visible)
    assert [gpu.capability for gpu in found.gpus] == capabilities
    assert found.driver == "580.95.05"
    assert all(gpu.used_mib == {120: 3, 90: 70000}[gpu.capability] for gpu in found.gpus)


def test_without_the_driver_s_tool_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine({}) == Machine((), None)
    assert serving_memory.here() is None


def test_a_plan_names_the_gpus_that_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{TABLE}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    here = serving_memory.here()
    assert here is not None
    assert (here.name, here.gpus, here.memory_mib) == ("here: 1× NVIDIA H100 80GB HBM3", 1, 81559)
    assert here.compute_capability == 90
