"""The Triton kernels give the CPU's bytes: `gpu_bytes.py`, in a process of its own."""

from pathlib import Path

from triton_cases import passed


def test_the_triton_kernels_give_the_cpu_s_bytes() -> None:
    assert passed(Path(__file__).with_name("gpu_bytes.py")) >= 50
