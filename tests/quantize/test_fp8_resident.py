"""`dequantize_to=float32` gives the bytes of ModelOpt's own path over linears that stay in FP8."""

import os
import subprocess
import sys

from running import ROOT
from several import DATASETS

FEW = [f"calibration.datasets.{name}.samples=2" for name in (*DATASETS, "llama_nemotron")]


def test_every_byte_is_modelopt_s_of_a_model_that_stays_in_fp8() -> None:
    said = subprocess.run(
        [sys.executable, "tests/quantize/fp8_resident.py", *FEW],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert "615 tensors, 12 projections in F32, 0 bytes differ" in said.stdout
