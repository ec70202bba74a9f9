"""Which files of a source are copied into the checkpoint, and what changes in config.json.

Everything that engines read is copied byte for byte: tokenizer, chat templates, generation and processor
settings, pinned code, licence. What is skipped, and why:

- weights and their index: the checkpoint has new ones;
- the same weights in other formats, and their description (`params.json`);
- settings on how the source is quantized: the checkpoint is quantized differently;
- `README.md`: it is the card of the source model;
- hidden files, and folders other than `additional_chat_templates`: engines do not read them.

config.json keeps every key, value and their order, with two exceptions: `quantization_config` becomes the
checkpoint's, and the dtype that of the model in memory.
"""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from proofcard.digest import sha256_file
from proofcard.errors import Stop
from proofcard.files import copied, listed

CONFIG = "config.json"
OTHER_FORMATS = (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".ot", ".pt", ".pth")
_TEMPLATES = "additional_chat_templates"
_LEFT_OUT = (
    "*.safetensors", "*.index.json", "params.json",
    "hf_quant_config.json", "quant_config.json", "quantize_config.json", "quantization_config.json",
    "readme*", "manifest.json", "calibration_*.csv", CONFIG,
)  # fmt: skip
_DTYPE_KEYS = ("dtype", "torch_dtype")


def belongs(name: str) -> bool:
    """Whether a file, by its path in the folder, is part of a source: top-level, or a chat template."""
    folder, _, file = name.rpartition("/")
    return file[0] != "." and (not folder or (folder == _TEMPLATES and file.endswith(".jinja")))


def files_of(folder: Path) -> list[Path]:
    """The files in a folder that belong to a source. Raises as `files.listed`."""
    below = folder / _TEMPLATES
    return [
        *listed(folder),
        *(path for path in (listed(below) if below.is_dir() else ()) if path.suffix == ".jinja"),
    ]


def is_carried(name: str) -> bool:
    """Whether a file of the source is copied into the checkpoint unchanged."""
    lower = name.lower()
    other = lower.endswith(OTHER_FORMATS) or any(fnmatch(lower, pattern) for pattern in _LEFT_OUT)
    return belongs(name) and not other


def carry(source: Path, files: dict[str, dict[str, Any]], folder: Path) -> None:
    """Copy the files that are carried over; delete files with such names that only an engine's export wrote.

    `files` is the source's file table, as in the checkpoint's key.

    Raises:
        Stop: when a file differs from the one in the key.
    """
    for name in sorted(filter(is_carried, files)):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        copied(source / name, source, target)
        if sha256_file(target) != files[name]["sha256"]:
            raise Stop(f"{source / name} changed while the checkpoint was being made: start again")
    for path in folder.iterdir():
        if path.is_file() and is_carried(path.name) and path.name not in files:
            path.unlink()  # default settings that transformers writes although the source has none


def config(source: dict[str, Any], quantization: dict[str, Any]) -> str:
    """The text of the checkpoint's config.json: the source's with the two changes described above."""
    made = {key: value for key, value in source.items() if key != "compression_config"}
    present = [key for key in _DTYPE_KEYS if key in made]
    made |= dict.fromkeys(present or ["torch_dtype"], "bfloat16")
    return json.dumps(made | {"quantization_config": quantization}, indent=2, ensure_ascii=False) + "\n"
