"""Tests of Triton kernels, in a process of their own: whether its interpreter runs them, without a GPU, has
to be chosen before Triton is imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from running import ROOT


def passed(cases: Path) -> int:
    """How many tests of a file pass; fails with pytest's output where one does not."""
    interpreted = {"TRITON_INTERPRET": str(int(not torch.cuda.is_available()))}
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", cases],
        cwd=ROOT, env=os.environ | interpreted, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    count = re.search(r"(\d+) passed", said.stdout)
    assert count, said.stdout
    return int(count[1])
