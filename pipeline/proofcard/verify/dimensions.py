"""Without a source: compares config.json's sizes with the shapes of the tensors.

Each size is checked where decoders have it. It only has to match one layer, since some models vary it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from proofcard.checkpoint.configuration import CONFIG
from proofcard.checkpoint.defaults import UNKNOWN, default
from proofcard.checkpoint.tensors import Tensor
from proofcard.checkpoint.ties import INPUT
from proofcard.verify.inventory import of_config
from proofcard.verify.regularity import EXPERTS
from proofcard.verify.report import Finding

Config = Mapping[str, Any]
_NUMBERS = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size",
    "intermediate_size", "moe_intermediate_size", "num_local_experts", "num_experts", "n_routed_experts",
    "num_experts_per_tok", "rms_norm_eps", "rope_theta", "max_position_embeddings",
}  # fmt: skip
_WIDTHS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "ffn_hidden_size")


def check(config: Config, tensors: Mapping[str, Tensor]) -> Iterator[Finding]:
    """A finding for each size that no tensor has although one should."""
    text = config.get("text_config")
    own = text if isinstance(text, dict) else config
    for key in _NUMBERS & own.keys():
        if own[key] is not None and (isinstance(own[key], (bool, str, dict)) or own[key] == []):
            yield Finding(
                "mismatched", f"{key} is {json.dumps(own[key])[:80]}, which is not a number", file=CONFIG
            )
    shapes: dict[str, set[tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        if (
            name.endswith(".weight")
            and len(tensor.shape) == 2
            and "vision" not in name
            and "visual" not in name
        ):
            rows, columns = tensor.shape
            kind = _kind(name)
            shapes.setdefault(kind, set()).add((rows, 2 * columns if tensor.dtype == "U8" else columns))
    hidden, heads = of_config(own, ("hidden_size",)), of_config(own, ("num_attention_heads",))
    if hidden is not None and not {"word_embed_proj_dim", "embedding_size"} & own.keys():
        yield from _fits("hidden_size", hidden, {shape[1] for shape in shapes.get("embedding", set())})
    head = own.get("head_dim") or default(own, "head_dim")
    if isinstance(head, int) and heads is not None and "kv_lora_rank" not in own:
        sizes = {rows for rows, _ in shapes.get("q_proj", set())}
        if 2 * heads * head not in sizes:  # some queries carry a gate
            yield from _fits("num_attention_heads · head_dim", heads * head, sizes)
        kv = own.get("num_key_value_heads") or default(own, "num_key_value_heads")
        if isinstance(kv, int) and kv is not UNKNOWN:
            sizes = {rows for rows, _ in shapes.get("k_proj", set())}
            yield from _fits("num_key_value_heads · head_dim", kv * head, sizes)
    widths = {key: own[key] for key in _WIDTHS if isinstance(own.get(key), int)}
    for kind in ("down_proj", "expert"):
        sizes = {columns for _, columns in shapes.get(kind, set())}
        if sizes and widths and not sizes & set(widths.values()):
            yield _finding(" or ".join(widths), sorted(set(widths.values())), sizes)
    experts = of_config(own, EXPERTS)
    if experts is not None:
        yield from _fits(EXPERTS[0], experts, {rows for rows, _ in shapes.get("router", set())})


def _kind(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    leaf = parts[-1]
    if leaf in INPUT and not any(part.isdigit() for part in parts):
        return "embedding"
    if leaf in ("w2", "down_proj"):
        return "expert" if "experts" in parts else "down_proj"
    return "router" if leaf in ("gate", "router") else leaf


def _fits(key: str, size: int, sizes: set[int]) -> Iterator[Finding]:
    if sizes and size not in sizes:
        yield _finding(key, [size], sizes)


def _finding(key: str, sizes: list[int], stored: set[int]) -> Finding:
    shown = ", ".join(map(str, sorted(stored)[:4]))
    message = f"{key} is {', '.join(map(str, sizes))}, but the tensors have {shown}"
    return Finding("mismatched", message, file=CONFIG, expected=shown, found=", ".join(map(str, sizes)))
