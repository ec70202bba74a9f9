"""Multi-token prediction (MTP) heads: copied into the checkpoint unquantized, in separate shards.

The pinned transformers has no class for them, so neither engine quantizes them. Servers read every shard in
the index; transformers reads `model.safetensors` and ignores what its class does not have.
"""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_header
from proofcard.checkpoint.writer import INDEX, Entry, Writer, layout

_FILES = "mtp"


def entries(source: Source, names: list[str]) -> list[Entry]:
    """Their tensors as the checkpoint holds them."""
    return [Entry(name, source.dtype(name), source.tensors[name].shape) for name in names]


def sizes(planned: list[Entry]) -> dict[str, int]:
    """Size in bytes of each of their shards."""
    return layout(planned, 0, stem=_FILES).sizes if planned else {}


def write(folder: Path, source: Source, names: list[str]) -> None:
    """Add their tensors to the shards and the index in `folder`.

    Raises:
        Stop: when a download fails.
        OSError: when the disk is full.
    """
    if not names:
        return
    planned = replace(layout(entries(source, names), 0, stem=_FILES), index=None)
    with Writer(folder, planned) as writer:
        writer.allocate()
        for name in names:
            writer.write(name, source.bits(name))
        writer.sync()
    _write_index(folder)


def _write_index(folder: Path) -> None:
    """Write one index of every shard in the folder; the parameter count in the engine's own index is kept."""
    tensors = {
        name: tensor for path in folder.glob("*.safetensors") for name, tensor in read_header(path).items()
    }
    path = folder / INDEX
    metadata = {"total_parameters": sum(prod(tensor.shape) for tensor in tensors.values())}
    if path.exists():
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    metadata["total_size"] = sum(tensor.size for tensor in tensors.values())
    content = {
        "metadata": metadata,
        "weight_map": {name: tensor.path.name for name, tensor in tensors.items()},
    }
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
