"""A GPU gives the CPU's bytes wherever calibration does not decide them, and its own bytes twice."""

from pathlib import Path

import pytest
import torch
from running import command, contents, quantize

from proofcard.checkpoint.tensors import read_folder

CALIBRATED = ("input_scale", "k_scale", "v_scale")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT CHECKED HERE: it needs a CUDA device")
def test_cpu_and_gpu(demo: Path, tmp_path: Path) -> None:
    once = quantize(tmp_path / "once", "hardware=cuda")
    again = quantize(tmp_path / "again", "hardware=cuda")
    assert contents(once) == contents(again)
    made, expected = read_folder(once), read_folder(demo)
    assert made.keys() == expected.keys()
    for name, tensor in expected.items():
        if name.endswith(CALIBRATED):
            assert made[name].bits() == pytest.approx(tensor.bits(), rel=0.05)
        else:
            assert made[name].sha256() == tensor.sha256(), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about a machine without a CUDA device")
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("hardware=cuda", "torch finds no CUDA device: use hardware=cpu"),
        (
            "toolchain=as_published engine=modelopt",
            "as_published cannot export without a GPU: use toolchain=fixed",
        ),
    ],
)
def test_a_missing_gpu_is_noticed_before_any_work(tmp_path: Path, override: str, sentence: str) -> None:
    said = command("quantize", *override.split(), cwd=tmp_path)
    assert said.returncode == 2
    assert sentence in said.stderr
    assert {path.name for path in tmp_path.glob("runs/*")} <= {"toolchains"}
