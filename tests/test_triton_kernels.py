"""Tests of Triton kernels, in one process of their own for all: whether its interpreter runs them, without a
GPU, has to be chosen before Triton is imported."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
from running import ROOT

BYTES = "nvfp4/gpu_bytes.py"
ADDING = "quantize/layerwise/adding_cases.py"
SCREEN = "quantize/layerwise/screen_cases.py"


@pytest.fixture(scope="module")
def passed() -> Counter[str]:
    """How many tests of each file pass; fails with pytest's output where one does not."""
    interpreted = {"TRITON_INTERPRET": str(int(not torch.cuda.is_available()))}
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *(ROOT / "tests" / name for name in (BYTES, ADDING, SCREEN))],
        cwd=ROOT, env=os.environ | interpreted, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    return Counter(re.findall(r"^tests/(\S+?)::.* PASSED\b", said.stdout, re.MULTILINE))


def test_those_of_nvfp4_give_the_cpu_s_bytes(passed: Counter[str]) -> None:
    assert passed[BYTES] >= 50


def test_the_one_that_adds_up_gives_pytorch_s_bits(passed: Counter[str]) -> None:
    assert passed[ADDING] >= 12


def test_the_screen_s_do_what_their_twins_do(passed: Counter[str]) -> None:
    assert passed[SCREEN] >= 3
