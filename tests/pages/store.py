"""A store as a user has it: two checkpoints of a tiny model, proved and measured by the real commands."""

import json
from pathlib import Path

from running import command, tiny, tiny_recipe

STORE = "runs/mlflow.db"
QUICK = ["hardware=one_thread", "calibration.sequence_length=16"]
CHOICES = {"with_kv": "kv_cache=fp8", "without_kv": "kv_cache=none"}


def made(folder: Path, texts: Path) -> dict[str, str]:
    """Make it in `folder`; returns the keys of the checkpoints."""
    source = tiny(folder / "source", "mixtral", num_hidden_layers=1)
    recipe = [*tiny_recipe(source, texts), *QUICK]
    keys = {}
    for name, choice in CHOICES.items():
        _done(folder, "quantize", *recipe, choice, f"output_dir=runs/{name}")
        keys[name] = json.loads((folder / "runs" / name / "manifest.json").read_text())["key"]
    _done(folder, "verify", "checkpoint=runs/with_kv", f"source={source}")
    _done(folder, "evaluate", "checkpoint=runs/with_kv", f"source={source}", *recipe[:3],
          "hardware=one_thread", "evaluation.rows=3", "evaluation.resamples=100")  # fmt: skip
    _done(folder, "card", "checkpoint=runs/with_kv", "license=apache-2.0")
    return keys


def _done(folder: Path, program: str, *words: str) -> None:
    said = command(program, *words, cwd=folder)
    assert said.returncode == 0, said.stderr
    assert "MLflow stopped" not in said.stderr, said.stderr
