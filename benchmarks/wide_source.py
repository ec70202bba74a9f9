"""python benchmarks/wide_source.py FOLDER [--layers 8] [--experts 48] [--hidden 768] [--inner 512]

A checkpoint of the demo's architecture, wider: FP8 with random weights, the demo's vocabulary and tokenizer.
Written shard by shard, never whole in memory.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from proofcard.checkpoint.writer import Entry, Writer, layout

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 128  # rows and columns of an FP8 scale
MODEL = "modeling_minimax_m2.py"
TOKEN_BY_TOKEN = """\
        for index, expert in enumerate(self.experts):
            row, slot = torch.where(chosen == index)
"""
SLOT_BY_SLOT = """\
        mask = nn.functional.one_hot(chosen, len(self.experts)).permute(2, 1, 0)
        for index in mask.sum(dim=(1, 2)).nonzero():
            expert = self.experts[index]
            slot, row = torch.where(mask[index].squeeze(0))
"""


def make_source(
    folder: Path, layers: int, experts: int, hidden: int, inner: int, head_dim: int = 64, top_k: int = 8
) -> None:
    """Write it. `inner` is the width of an expert; query channels are twice `hidden`, keys a sixth."""
    folder.mkdir(parents=True)
    for path in (ROOT / "demo/model").iterdir():
        if path.suffix in (".py", ".json", ".jinja") and "index" not in path.name:
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    heads = 2 * hidden // head_dim
    config |= {
        "hidden_size": hidden, "intermediate_size": inner, "num_local_experts": experts,
        "num_experts_per_tok": top_k, "num_attention_heads": heads, "num_key_value_heads": heads // 6,
        "head_dim": head_dim, "rotary_dim": head_dim // 2, "max_position_embeddings": 196608,
        "num_hidden_layers": layers, "attn_type_list": [1] * layers,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    entries = tensors(config)
    random = np.random.default_rng(0)
    codes = random.integers(0, 0x50, 48 << 20, np.uint8) | (random.integers(0, 2, 48 << 20, np.uint8) << 7)
    with Writer(folder, layout(entries, 0)) as writer:
        writer.allocate()
        for entry in entries:
            writer.write(entry.name, values(entry, codes, random))


def slot_by_slot(folder: Path) -> str:
    """Let the experts find their tokens as MiniMax-M2.7's own code does; the setting that trusts that code.

    It looks in a mask, slot by slot: an expert's rows are in another order than the demo's, and the mask of
    a batch takes memory and time.
    """
    code = (folder / MODEL).read_text()
    assert TOKEN_BY_TOKEN in code or SLOT_BY_SLOT in code
    (folder / MODEL).write_text(code.replace(TOKEN_BY_TOKEN, SLOT_BY_SLOT))
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    return f"model.remote_code={{{MODEL}: '{digest}'}}"


def tensors(config: dict) -> list[Entry]:
    """Every tensor of the checkpoint, scales included."""
    hidden, inner, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    matrices: dict[str, tuple[int, int]] = {}
    plain: dict[str, tuple[int, ...]] = {"model.norm.weight": (hidden,)}
    plain |= dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (config["vocab_size"], hidden))
    layers = [f"model.layers.{i}" for i in range(config["num_hidden_layers"])]
    for layer in layers:
        attention = {"q": (query, hidden), "k": (key, hidden), "v": (key, hidden), "o": (hidden, query)}
        matrices |= {f"{layer}.self_attn.{name}_proj": shape for name, shape in attention.items()}
        for expert in (f"{layer}.block_sparse_moe.experts.{e}" for e in range(experts)):
            matrices |= {f"{expert}.{w}": (inner, hidden) for w in ("w1", "w3")}
            matrices[f"{expert}.w2"] = (hidden, inner)
        plain |= {f"{layer}.self_attn.q_norm.weight": (query,), f"{layer}.self_attn.k_norm.weight": (key,)}
        plain |= {f"{layer}.{norm}_layernorm.weight": (hidden,) for norm in ("input", "post_attention")}
        plain[f"{layer}.block_sparse_moe.gate.weight"] = (experts, hidden)
    entries = [Entry(name, "BF16", shape) for name, shape in plain.items()]
    entries += [Entry(f"{n}.block_sparse_moe.e_score_correction_bias", "F32", (experts,)) for n in layers]
    for name, (rows, cols) in matrices.items():
        entries.append(Entry(f"{name}.weight", "F8_E4M3", (rows, cols)))
        entries.append(Entry(f"{name}.weight_scale_inv", "F32", (-(-rows // BLOCK), -(-cols // BLOCK))))
    return entries


def values(entry: Entry, codes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Bits of one tensor; FP8 weights are cut from `codes` at random places, all finite."""
    if entry.dtype == "F8_E4M3":
        start = random.integers(0, codes.size - entry.size)
        return codes[start : start + entry.size]
    if entry.dtype == "BF16":
        drawn = np.ones(entry.shape) if len(entry.shape) == 1 else random.normal(0, 0.02, entry.shape)
        return (drawn.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.full(entry.shape, 0.0 if "bias" in entry.name else 0.005, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    for name, value in {"layers": 8, "experts": 48, "hidden": 768, "inner": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    said = parser.parse_args()
    make_source(said.folder, said.layers, said.experts, said.hidden, said.inner)


if __name__ == "__main__":
    main()
