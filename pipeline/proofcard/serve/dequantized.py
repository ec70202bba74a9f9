"""A checkpoint in BF16, for engines without NVFP4 support: a sealed stage, made once per checkpoint."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from proofcard import deciding, manifest, stage
from proofcard.checkpoint.writer import Entry
from proofcard.digest import file_table
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, Usage
from proofcard.files import listed
from proofcard.fingerprint import packages
from proofcard.progress import console, shown
from proofcard.serve import bf16_copy, layouts

NAME = "dequantize"


def folder(checkpoint: Path, config: dict[str, Any], work_dir: Path) -> Path:
    """The folder with `checkpoint` in BF16: itself if it is not quantized, else a sealed copy.

    A weight in NVFP4 is as `layouts.Linear` reads it, one in FP8 as `Source` does. Input and KV scales are
    skipped, everything else is as stored. `config` is its config.json.
    Every byte of the checkpoint, and of a copy that is reused, is read and compared with its digest.

    Raises:
        Usage: when its layout is unsupported, it was altered, or it is larger than this machine's memory.
        Stop: when it, or the copy, is damaged.
    """
    weights = layouts.readable(checkpoint, config, len(os.sched_getaffinity(0)))
    if weights is None:
        held_to_seal(checkpoint)
        return checkpoint
    check_memory(weights.entries.values())
    files = held_to_seal(checkpoint) or _read_files(checkpoint)
    toolchain = {
        "packages": packages(*deciding.PACKAGES[NAME]),
        "code": deciding.digest(deciding.DEQUANTIZE),
    }
    key = manifest.key_of(NAME, {}, {"checkpoint": files}, toolchain)
    final = work_dir / "dequantized" / f"{checkpoint.resolve().name}-{key[:12]}"
    try:
        if stage.find_sealed(final, key) is not None:
            return final
    except Stop:
        raise Stop(f"{shown(final)} is damaged: delete it, and it will be made again") from None

    def make(partial: Path) -> Manifest:
        console.print(f"dequantizing {shown(checkpoint)} to {shown(final)}", markup=False)
        bf16_copy.write(checkpoint, config, list(files), weights, partial)
        body = {
            "stage": NAME,
            "key": key,
            "config": {},
            "inputs": {"checkpoint": files},
            "toolchain": toolchain,
            "seeds": {},
            "platform": {},
            "statistics": {"tensors": len(weights.entries)},
        }
        return stage.seal(partial, final, body)

    stage.once(final, key, make)
    return final


def held_to_seal(checkpoint: Path) -> dict[str, Any] | None:
    """Size and sha256 of every file of a sealed checkpoint, reading every byte; None if it was never sealed.

    Raises:
        Usage: when a file differs from what was sealed, or one was added that would be loaded.
    """
    if not (checkpoint / manifest.NAME).exists():
        return None
    try:
        return {name: file.values() for name, file in stage.intact(checkpoint).outputs.files.items()}
    except Stop as stop:
        raise Usage(str(stop)) from None


def check_memory(entries: Iterable[Entry]) -> None:
    """Raise Usage when the weights are larger than this machine's memory."""
    needed, there = sum(entry.size for entry in entries), psutil.virtual_memory().total
    if needed > there:
        raise Usage(
            f"in BF16 the checkpoint needs {needed / 1e9:.0f} GB of memory, but this machine has "
            f"{there / 1e9:.0f}: serve it on GPUs, with another profile of conf/serving"
        )


def _read_files(checkpoint: Path) -> dict[str, Any]:
    """Size and sha256 of every top-level file, without hidden ones."""
    return file_table(checkpoint, listed(checkpoint))
