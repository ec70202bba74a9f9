"""A part of the demo's model as a source: its first layers and experts, its code and tokenizer."""

import re
import shutil
from pathlib import Path

from quantize.changing import change_config
from running import ROOT
from safetensors.torch import load_file, save_file

DEMO = ROOT / "demo" / "model"


def part_of_demo(folder: Path, layers: int = 2, experts: int = 8) -> Path:
    """Made as `folder`; the router chooses among the experts that are left."""
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    change_config(folder, num_hidden_layers=layers, num_local_experts=experts, attn_type_list=[1] * layers)
    state = {
        name: value for path in sorted(DEMO.glob("*.safetensors")) for name, value in load_file(path).items()
    }
    for name in list(state):
        layer, expert = (re.search(rf"\.{kind}\.(\d+)\.", name) for kind in ("layers", "experts"))
        if (layer and int(layer[1]) >= layers) or (expert and int(expert[1]) >= experts):
            del state[name]
        elif name.endswith((".gate.weight", ".e_score_correction_bias")):
            state[name] = state[name][:experts].clone()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder
