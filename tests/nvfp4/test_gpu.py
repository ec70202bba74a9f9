"""The Triton kernels give the CPU's bytes: `gpu_bytes.py`, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from running import ROOT


def test_the_triton_kernels_give_the_cpu_s_bytes() -> None:
    interpreted = {"TRITON_INTERPRET": str(int(not torch.cuda.is_available()))}
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", Path(__file__).with_name("gpu_bytes.py")],
        cwd=ROOT, env=os.environ | interpreted, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    passed = re.search(r"(\d+) passed", said.stdout)
    assert passed and int(passed[1]) >= 50, said.stdout
