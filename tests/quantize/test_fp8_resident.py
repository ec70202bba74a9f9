"""`dequantize_to=float32` gives the bytes of ModelOpt's own path over linears that stay in FP8."""

from pathlib import Path

from running import ROOT, python
from several import DATASETS

FEW = [f"calibration.datasets.{name}.samples=2" for name in (*DATASETS, "llama_nemotron")]


def test_every_byte_is_modelopt_s_of_a_model_that_stays_in_fp8() -> None:
    said = python(Path(__file__).with_name("fp8_resident.py"), *FEW, cwd=ROOT)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "615 tensors, 12 projections in F32, 0 bytes differ" in said.stdout
