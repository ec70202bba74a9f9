"""Block-scaled FP8 checkpoints: 128×128 blocks, E4M3 values, one float32 scale a block.

`x ≈ float32(q) · scale_inv`, with `scale_inv = max|x| / 448` of the block, under the name
`<weight>_scale_inv`. Only linear weights of attention and experts are stored so.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

BLOCK = 128
LARGEST = 448.0  # largest finite E4M3 value
SHARD_BYTES = 2_400_000
INDEX = "model.safetensors.index.json"
NOT_CONVERTED = ["gate", "e_score_correction_bias", "lm_head"]
QUANTIZATION_CONFIG = {
    "activation_scheme": "dynamic",
    "fmt": "float8_e4m3fn",
    "modules_to_not_convert": NOT_CONVERTED,
    "quant_method": "fp8",
    "weight_block_size": [BLOCK, BLOCK],
}


def write_json(path: Path, value: object) -> None:
    """One way to write JSON: sorted keys, two spaces, a line feed at the end."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def is_quantized(name: str) -> bool:
    """Whether the tensor of that name is stored in FP8."""
    return name.endswith(("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight"))


def expand(scale: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(rows/128, columns/128) scales, rounded up -> one scale an element, in the weight's shape."""
    wide = scale.repeat_interleave(BLOCK, dim=0).repeat_interleave(BLOCK, dim=1)
    return wide[: shape[0], : shape[1]]


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (rows, columns) -> E4M3 of that shape and the float32 scales of its blocks."""
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight.float().abs(), (0, -columns % BLOCK, 0, -rows % BLOCK))
    blocks = padded.view(padded.shape[0] // BLOCK, BLOCK, padded.shape[1] // BLOCK, BLOCK)
    largest = blocks.amax(dim=(1, 3))
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    values = (weight.float() / expand(scale, weight.shape)).clamp(-LARGEST, LARGEST)
    return values.to(torch.float8_e4m3fn), scale


def dequantize(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """E4M3 and its scales -> BF16, one rounding to nearest even of the float32 product."""
    return (values.float() * expand(scale, values.shape)).to(torch.bfloat16)


def stored(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A float32 state dict in its stored form: FP8 with scales, float32 routing bias, BF16 for the rest."""
    result = {}
    for name, tensor in state.items():
        if is_quantized(name):
            result[name], result[f"{name}_scale_inv"] = quantize(tensor)
        elif name.endswith("e_score_correction_bias"):
            result[name] = tensor.float().clone()
        else:
            result[name] = tensor.to(torch.bfloat16)
    return result


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], limit: int = SHARD_BYTES) -> None:
    """Fill shards in the given order, at most `limit` bytes each, and write their index.

    A layer, or a weight and its scale, may come to lie in different shards: readers must go by the index.
    """
    shards: list[dict[str, torch.Tensor]] = [{}]
    for name, tensor in tensors.items():
        if sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > limit:
            shards.append({})
        shards[-1][name] = tensor.contiguous()
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # the library writes 0600
        weight_map.update(dict.fromkeys(shard, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def read_shards(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a sharded checkpoint, as stored."""
    tensors = {}
    for file in sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values())):
        with safe_open(folder / file, framework="pt") as shard:
            tensors.update({name: shard.get_tensor(name) for name in shard.keys()})  # noqa: SIM118
    return tensors


def dequantized_state(folder: Path) -> dict[str, torch.Tensor]:
    """The checkpoint's weights without scales: BF16, the routing bias float32."""
    tensors = read_shards(folder)
    return {
        name: dequantize(tensor, tensors[f"{name}_scale_inv"]) if is_quantized(name) else tensor
        for name, tensor in tensors.items()
        if not name.endswith("_scale_inv")
    }


def dequantize_folder(source: Path, target: Path) -> None:
    """A BF16 copy of an FP8 checkpoint that any CPU loads: same code and tokenizer, no quantization."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix != ".safetensors" and file.name != INDEX:
            shutil.copyfile(file, target / file.name)
    config = json.loads((source / "config.json").read_text())
    config.pop("quantization_config", None)
    config["dtype"] = "bfloat16"
    write_json(target / "config.json", config)
    write_shards(target, dequantized_state(source))
