"""Weights onto a GPU: those that the CPU reads."""

from pathlib import Path

import pytest
import torch
from running import ROOT

from proofcard.checkpoint.source import Source
from proofcard.quantize.model import tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT CHECKED HERE: it needs a CUDA device")
@pytest.mark.parametrize("fp8", [True, False])
def test_they_are_the_cpu_s_bit_for_bit(fp8: bool, mixtral: Path) -> None:
    from proofcard.quantize.layerwise.intake import Intake

    source = Source(ROOT / "demo" / "model" if fp8 else mixtral)
    names = [name for name in source.weights() if name.startswith("model.layers.0.")]
    for name, weight in Intake(source, torch.device("cuda")).read(names).items():
        assert torch.equal(weight.cpu(), tensor(source, name)), name
