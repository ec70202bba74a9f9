"""Writes a checkpoint's weights in BF16 for engines without NVFP4; `layouts` reads the weights."""

from math import prod
from pathlib import Path
from typing import Any

from proofcard.checkpoint.writer import Writer, layout
from proofcard.digest import readable_json
from proofcard.errors import Stop
from proofcard.files import copied
from proofcard.progress import Bar
from proofcard.serve.layouts import Weights

_COPIED = (".json", ".jinja", ".txt", ".model", ".py")
_REPLACED = ("config.json", "hf_quant_config.json", "model.safetensors.index.json", "manifest.json")


def write(
    checkpoint: Path,
    config: dict[str, Any],
    files: list[str],
    weights: Weights,
    folder: Path,
) -> None:
    """Write shards, config.json without its quantization, tokenizer and code.

    `config` is the checkpoint's config.json, `files` lists its files.

    Raises:
        Stop: when a tensor cannot be read.
        OSError: when the disk is full.
    """
    _write_shards(weights, folder)
    (folder / "config.json").write_text(readable_json(plain(config)), encoding="utf-8")
    for name in sorted(files):
        if name.endswith(_COPIED) and "/" not in name and name not in _REPLACED:
            copied(checkpoint / name, checkpoint, folder / name)


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """config.json without its quantization, also for its text model."""
    plain_config = {name: value for name, value in config.items() if name != "quantization_config"}
    if isinstance(inner := plain_config.get("text_config"), dict):
        plain_config["text_config"] = {
            name: value for name, value in inner.items() if name != "quantization_config"
        }
    return plain_config


def _write_shards(weights: Weights, target: Path) -> None:
    """Write one shard after the other, with one tensor in memory at a time."""
    entries = weights.entries
    parameters = sum(prod(entry.shape) for entry in entries.values())
    with Writer(target, layout(list(entries.values()), parameters)) as writer:
        writer.allocate()
        with Bar("dequantizing", len(entries), "tensors") as bar:
            for name in entries:
                try:
                    writer.write(name, weights.bits(name))
                except ValueError as error:
                    raise Stop(f"{name} cannot be read: {error}; see verify") from None
                bar.advance()
        writer.sync()
