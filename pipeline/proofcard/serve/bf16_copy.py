"""A checkpoint's weights in BF16, and the folder of them that engines without NVFP4 load.

A weight is bf16(value(code) · (float32(weight_scale) · weight_scale_2)); FP8 ones are as `Source` reads them.
Input and KV scales are left out, everything else is as stored.
"""

import os
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from proofcard import nvfp4
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, read_folder
from proofcard.checkpoint.writer import Entry, Writer, layout
from proofcard.digest import readable_json
from proofcard.errors import Stop, Usage
from proofcard.progress import Bar

_LEFT_OUT = (".weight_scale", ".weight_scale_2", ".input_scale", ".k_scale", ".v_scale", ".k_bias", ".v_bias")
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")
_REPLACED = ("config.json", "hf_quant_config.json", "model.safetensors.index.json", "manifest.json")

Bits = Callable[[str], np.ndarray]
"""What gives the raw bits of a weight, by its name."""


def weights(checkpoint: Path, said: dict[str, Any]) -> tuple[dict[str, Entry], Bits]:
    """What the copy holds, by name, and what gives the bits of each."""
    if said.get("quant_method") == "fp8":
        source = Source(checkpoint)
        names = source.weights()
        return {
            name: Entry(name, source.dtype(name), source.tensors[name].shape) for name in names
        }, source.bits
    if said.get("quant_algo") != "NVFP4":
        named = said.get("quant_algo") or said.get("quant_method")
        raise Usage(f"{checkpoint} is quantized as {named}: transformers_cpu serves NVFP4, FP8 and BF16")
    tensors = read_folder(checkpoint)
    entries = {}
    for name, tensor in sorted(tensors.items()):
        packed = f"{name}_scale_2" in tensors
        if name.endswith(_LEFT_OUT):
            continue
        shape = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if packed else tensor.shape
        entries[name] = Entry(name, "BF16" if packed else tensor.dtype, shape)
    return entries, lambda name: _bits(tensors, name)


def write(
    checkpoint: Path, config: dict[str, Any], entries: dict[str, Entry], bits: Bits, folder: Path
) -> None:
    """Shards, config.json without its quantization, tokenizer and code. `config` is the checkpoint's."""
    _write_shards(entries, bits, folder)
    plain = {name: value for name, value in config.items() if name != "quantization_config"}
    (folder / "config.json").write_text(readable_json(plain), encoding="utf-8")
    for path in sorted(path for pattern in _COPIED for path in checkpoint.glob(pattern)):
        if path.name not in _REPLACED:
            shutil.copyfile(path, folder / path.name)


def _bits(tensors: dict[str, Tensor], name: str) -> np.ndarray:
    """A weight as BF16 bits if it is packed, as stored otherwise."""
    if f"{name}_scale_2" not in tensors:
        return tensors[name].bits()
    if f"{name}_scale" not in tensors:
        raise Stop(f"{name}_scale is missing: the checkpoint is damaged, see verify")
    cores = len(os.sched_getaffinity(0))
    scale_2 = tensors[f"{name}_scale_2"].bits().reshape(())
    packed, scale = tensors[name].bits(), tensors[f"{name}_scale"].bits()
    return nvfp4.dequantize(packed, scale, np.float32(scale_2), threads=cores)


def _write_shards(entries: dict[str, Entry], bits: Bits, target: Path) -> None:
    """Shard after shard, one tensor in memory at a time."""
    parameters = sum(prod(entry.shape) for entry in entries.values())
    with Writer(target, layout(list(entries.values()), parameters)) as writer:
        writer.allocate()
        with Bar("dequantizing", len(entries), "tensors") as bar:
            for name in entries:
                writer.write(name, bits(name))
                bar.advance()
        writer.sync()
