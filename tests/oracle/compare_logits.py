""".venv-oracle/bin/python tests/oracle/compare_logits.py EXCHANGE…   # transformers 5.12.1, seconds

Loads weights into the library's own MiniMaxM2ForCausalLM and measures how far its logits are from ours.

EXCHANGE/plain                 dequantized BF16 checkpoint, without remote code
EXCHANGE/ours.safetensors      input_ids, attention_mask (B, S) int64; our logits (B, S, vocabulary)
                               float32 under `float32` and `bfloat16`, the type the model ran in
EXCHANGE/comparison.json       written here; all numbers over real tokens only, in units of logits
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import MiniMaxM2ForCausalLM


def library_model(folder: Path, dtype: torch.dtype) -> MiniMaxM2ForCausalLM:
    """The library's class with the checkpoint's weights; plain attention and plain experts."""
    model, info = MiniMaxM2ForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    unused = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
    if unused:
        raise SystemExit(f"the library did not take every tensor: {unused}")
    if type(model).__module__ != "transformers.models.minimax_m2.modeling_minimax_m2":
        raise SystemExit(f"not the library's own model: {type(model).__module__}")
    # The library allocates the routing bias in the default type; the stored one is float32.
    stored = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored.update({n: t for n, t in load_file(file).items() if n.endswith("e_score_correction_bias")})
    for index, layer in enumerate(model.model.layers):
        bias = stored[f"model.layers.{index}.block_sparse_moe.e_score_correction_bias"]
        layer.mlp.e_score_correction_bias = bias.float()
    return model.eval()


def distance(one: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    """Largest and root-mean-square difference."""
    gap = (one.double() - other.double()).abs()
    return {"max": gap.max().item(), "rms": gap.square().mean().sqrt().item()}


@torch.no_grad()
def main(exchange: Path) -> None:
    """Run both types and write the comparison."""
    torch.set_num_threads(2)
    ours = load_file(exchange / "ours.safetensors")
    real = ours["attention_mask"].bool()
    theirs = {}
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        model = library_model(exchange / "plain", dtype)
        output = model(input_ids=ours["input_ids"], attention_mask=ours["attention_mask"], use_cache=False)
        theirs[name] = output.logits.float()[real]
    mine = {name: ours[name][real] for name in theirs}
    comparison = {
        "bfloat16": distance(mine["bfloat16"], theirs["bfloat16"]),
        "bfloat16_noise_library": distance(theirs["bfloat16"], theirs["float32"]),
        "bfloat16_noise_ours": distance(mine["bfloat16"], mine["float32"]),
        "float32": distance(mine["float32"], theirs["float32"]),
        "logits_rms": theirs["float32"].double().square().mean().sqrt().item(),
        "same_best_token": {
            name: (mine[name].argmax(-1) == theirs[name].argmax(-1)).double().mean().item() for name in theirs
        },
        "tokens": int(real.sum()),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (exchange / "comparison.json").write_text(json.dumps(comparison, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        main(Path(each))
