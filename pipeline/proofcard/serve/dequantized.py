"""A checkpoint in BF16, for engines that know no NVFP4: a sealed stage, made once for each checkpoint."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from proofcard import deciding, manifest, stage
from proofcard.checkpoint.tensors import digests
from proofcard.checkpoint.writer import Entry
from proofcard.digest import file_table
from proofcard.errors import Stop, Usage
from proofcard.fingerprint import packages
from proofcard.progress import Bar, console, shown
from proofcard.serve import bf16_copy

NAME = "dequantize"


def folder(checkpoint: Path, config: dict[str, Any], work_dir: Path) -> Path:
    """The folder with `checkpoint` in BF16: itself if it is not quantized, else a sealed copy.

    What it holds is in `bf16_copy`. `config` is the checkpoint's config.json.

    Raises:
        Usage: when it is quantized in another way, or larger than this machine's memory.
        Stop: when it is damaged, or not what was sealed.
    """
    said = config.get("quantization_config")
    if not said:
        return checkpoint
    tensors, bits = bf16_copy.weights(checkpoint, said)
    check_memory(tensors.values())
    files = _files(checkpoint)
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
        raise Stop(f"{shown(final)} is damaged: remove it, it will be made again") from None
    _hold_to_seal(checkpoint, files)
    console.print(f"{shown(checkpoint)} is dequantized to {shown(final)}", markup=False)
    with stage.building(final) as partial:
        bf16_copy.write(checkpoint, config, tensors, bits, partial)
        body = {
            "stage": NAME,
            "key": key,
            "config": {},
            "inputs": {"checkpoint": files},
            "toolchain": toolchain,
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
