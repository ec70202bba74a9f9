"""The demo with fewer samples, made once with its MLflow run."""

from pathlib import Path

import pytest
from running import command
from several import DATASETS


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder; the checkpoint is in `runs/checkpoints`."""
    cwd = tmp_path_factory.mktemp("reproduce")
    words = [f"calibration.datasets.{name}.samples=2" for name in (*DATASETS, "llama_nemotron")]
    made = command("quantize", *words, "hardware.device=cpu", "hardware.threads=1", cwd=cwd)
    assert made.returncode == 0, made.stderr
    return cwd
