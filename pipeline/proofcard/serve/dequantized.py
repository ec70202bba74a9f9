"""A checkpoint in BF16, for engines that know no NVFP4: a sealed stage, made once for each checkpoint."""

import os
import shutil
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from proofcard import manifest, stage
from proofcard.checkpoint.roles import role
from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import Tensor, digests, read_folder
from proofcard.checkpoint.writer import Entry, Writer, layout
from proofcard.digest import code_digest, file_table, readable_json
from proofcard.errors import Stop, Usage
from proofcard.nvfp4 import dequantize
from proofcard.progress import Bar, console, shown

NAME = "dequantize"
_CODE = (
    "serve/dequantized.py",
    "checkpoint/source.py",
    "checkpoint/tensors.py",
    "checkpoint/writer.py",
    "nvfp4",
)
_SCALES = (".weight_scale", ".weight_scale_2", ".input_scale")
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")
_REPLACED = ("config.json", "hf_quant_config.json", "model.safetensors.index.json", manifest.NAME)


def folder(checkpoint: Path, config: dict[str, Any], work_dir: Path) -> Path:
    """The folder with `checkpoint` in BF16: itself if it is not quantized, else a sealed copy.

    A weight is bf16(value(code) · (float32(weight_scale) · weight_scale_2)); FP8 ones are as `Source` reads
    them. Input and KV scales are left out, everything else is as stored. `config` is its config.json.

    Raises:
        Usage: when it is quantized in another way, or larger than this machine's memory.
        Stop: when it is damaged, or not what was sealed.
    """
    said = config.get("quantization_config")
    if not said:
        return checkpoint
    tensors, bits = _weights(checkpoint, said)
    check_memory(tensors.values())
    files = _files(checkpoint)
    key = manifest.key_of(NAME, {}, {"checkpoint": files}, {"code": code_digest(*_CODE)})
    final = work_dir / "dequantized" / f"{checkpoint.resolve().name}-{key[:12]}"
    try:
        if stage.find_sealed(final, key) is not None:
            return final
    except Stop:
        raise Stop(f"{shown(final)} is damaged: remove it, it will be made again") from None
    _hold_to_seal(checkpoint, files)
    console.print(f"{shown(checkpoint)} is dequantized to {shown(final)}", markup=False)
    with stage.building(final) as partial:
        _write(tensors, bits, partial)
        plain = {name: value for name, value in config.items() if name != "quantization_config"}
        (partial / "config.json").write_text(readable_json(plain), encoding="utf-8")
        for path in sorted(path for pattern in _COPIED for path in checkpoint.glob(pattern)):
            if path.name not in _REPLACED:
                shutil.copyfile(path, partial / path.name)
        body = {
            "stage": NAME,
            "key": key,
            "config": {},
            "inputs": {"checkpoint": files},
            "toolchain": {"code": code_digest(*_CODE)},
            "seeds": {},
            "platform": {},
            "statistics": {"tensors": len(tensors)},
        }
        stage.seal(partial, final, body)
    return final


def check_memory(entries: Iterable[Entry]) -> None:
    """Raises Usage when what would be loaded is more than the memory of this machine."""
    needed, there = sum(entry.size for entry in entries), psutil.virtual_memory().total
    if needed > there:
        raise Usage(
            f"in BF16 the checkpoint takes {needed / 1e9:.0f} GB of memory, this machine has "
            f"{there / 1e9:.0f}: serve it on GPUs, with another profile of conf/serving"
        )


def _weights(checkpoint: Path, said: dict[str, Any]) -> tuple[dict[str, Entry], Callable[[str], np.ndarray]]:
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
        if name.endswith(_SCALES) or role(name).startswith("KV cache"):
            continue
        shape = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if packed else tensor.shape
        entries[name] = Entry(name, "BF16" if packed else tensor.dtype, shape)
    return entries, lambda name: _bits(tensors, name)


def _bits(tensors: dict[str, Tensor], name: str) -> np.ndarray:
    """A weight as BF16 bits if it is packed, as stored otherwise."""
    if f"{name}_scale_2" not in tensors:
        return tensors[name].bits()
    if f"{name}_scale" not in tensors:
        raise Stop(f"{name}_scale is missing: the checkpoint is damaged, see verify")
    cores = len(os.sched_getaffinity(0))
    scale_2 = tensors[f"{name}_scale_2"].bits().reshape(())
    packed, scale = tensors[name].bits(), tensors[f"{name}_scale"].bits()
    return dequantize(packed, scale, np.float32(scale_2), threads=cores)


def _files(checkpoint: Path) -> dict[str, Any]:
    """Size and sha256 of every file: from its manifest where there is one, read otherwise."""
    if (checkpoint / manifest.NAME).exists():
        sealed: dict[str, Any] = manifest.read(checkpoint)["outputs"]["files"]
        return sealed
    return file_table(checkpoint, [p for p in checkpoint.iterdir() if p.is_file() and p.name[0] != "."])


def _hold_to_seal(checkpoint: Path, files: dict[str, Any]) -> None:
    """Raises Stop for a sealed file that is not what was sealed."""
    with Bar("checking", len(files), "files") as bar:
        for name, said in files.items():
            path = checkpoint / name
            if not path.is_file() or digests(path, [])[0] != said["sha256"]:
                raise Stop(f"{path} is not what was sealed: see proofcard verify checkpoint={checkpoint}")
            bar.advance()


def _write(entries: dict[str, Entry], bits: Callable[[str], np.ndarray], target: Path) -> None:
    """Shard after shard, one tensor in memory at a time."""
    parameters = sum(prod(entry.shape) for entry in entries.values())
    with Writer(target, layout(list(entries.values()), parameters)) as writer:
        writer.allocate()
        with Bar("dequantizing", len(entries), "tensors") as bar:
            for name in entries:
                writer.write(name, bits(name))
                bar.advance()
        writer.sync()
