"""The source that tests of sources change, and what is said of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from proofcard.checkpoint.source import Source
from proofcard.config import QuantizeConfig, compose
from proofcard.errors import Stop
from proofcard.quantize.model import skeleton

State = dict[str, torch.Tensor]
EXPERT = "model.layers.1.mlp.experts.2.up_proj.weight"
GENERATION = b'{"do_sample": true, "top_k": 40, "eos_token_id": [0, 5], "temperature": 0.6}'


def change_tensors(folder: Path, change: Callable[[State], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def built(folder: Path) -> tuple[Source, Any]:
    config = compose(QuantizeConfig, "config", ["recipe=local", f"model.path={folder}"])
    source = Source(folder)
    return source, skeleton(source, config.model)


def refusal(folder: Path) -> str:
    with pytest.raises(Stop) as stop:
        built(folder)
    return str(stop.value)
