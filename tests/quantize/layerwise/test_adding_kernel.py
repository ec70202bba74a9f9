"""The kernel that adds up experts' outputs: `adding_cases.py`, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from running import ROOT


def test_the_kernel_gives_pytorch_s_bits() -> None:
    interpreted = {"TRITON_INTERPRET": str(int(not torch.cuda.is_available()))}
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", Path(__file__).with_name("adding_cases.py")],
        cwd=ROOT, env=os.environ | interpreted, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    passed = re.search(r"(\d+) passed", said.stdout)
    assert passed and int(passed[1]) >= 12, said.stdout
