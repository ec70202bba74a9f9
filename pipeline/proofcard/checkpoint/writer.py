"""Writes the shards that transformers' `save_pretrained` would write, as a stream.

All names, dtypes and shapes are known beforehand, so every tensor has a fixed offset before its bytes exist:
they may be written in any order, by several processes, and again after a kill, with the same result.
"""

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from proofcard.checkpoint.tensors import BITS
from proofcard.disk import force_to_disk

MAX_SHARD_SIZE = 5 * 10**9  # bytes of tensors in a file; save_pretrained's "5GB"
INDEX = "model.safetensors.index.json"
_METADATA = {"format": "pt"}
_BYTES = {name: np.dtype(bits).itemsize for name, bits in BITS.items()}


class Entry(NamedTuple):
    """A planned tensor: its name, safetensors dtype (`BF16`, `F8_E4M3`, `U8`, …) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * _BYTES[self.dtype]


class Place(NamedTuple):
    """Where a tensor's bytes go: `size` bytes from `start` in `file`."""

    file: str
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Header and size in bytes of every file, the place of every tensor, the index text if any."""

    headers: dict[str, bytes]
    sizes: dict[str, int]
    places: dict[str, Place]
    index: str | None


def layout(
    entries: Sequence[Entry],
    total_parameters: int,
    max_shard_size: int = MAX_SHARD_SIZE,
    stem: str = "model",
) -> Layout:
    """The files as `huggingface_hub.split_torch_state_dict_into_shards` fills them, in order.

    `entries` are in the order of the state dict; `total_parameters` goes into the index. A tensor larger than
    `max_shard_size` gets a separate file. `stem` is the base of the file names.

    Raises:
        ValueError: for a duplicate name.
    """
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("duplicate tensor name")
    shards: list[list[Entry]] = []
    current: list[Entry] = []
    filled = 0
    for entry in entries:
        if entry.size > max_shard_size:
            shards.append([entry])
            continue
        if filled + entry.size > max_shard_size:
            shards.append(current)
            current, filled = [], 0
        current.append(entry)
        filled += entry.size
    if current:
        shards.append(current)
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    headers: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    places: dict[str, Place] = {}
    for file, shard in zip(names, shards, strict=True):
        headers[file], inside = _header(shard)
        sizes[file] = len(headers[file]) + sum(entry.size for entry in shard)
        places |= {name: Place(file, start, size) for name, (start, size) in inside.items()}
    index = None
    if len(shards) > 1:
        header = {"total_parameters": total_parameters, "total_size": sum(entry.size for entry in entries)}
        content = {"metadata": header, "weight_map": {name: place.file for name, place in places.items()}}
        index = json.dumps(content, indent=2, sort_keys=True) + "\n"
    return Layout(headers, sizes, places, index)


def _header(shard: list[Entry]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The first bytes of a file, and `{name: (start in the file, size)}`.

    Tensors are ordered by dtype, in safetensors' own order, then by name.
    """
    order = sorted(shard, key=lambda entry: (_DTYPES.index(entry.dtype), entry.name.encode()))
    header: dict[str, Any] = {"__metadata__": _METADATA}
    end = 0
    for entry in order:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [end, end + entry.size],
        }
        end += entry.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    base = 8 + len(text)
    inside = {entry.name: (base + header[entry.name]["data_offsets"][0], entry.size) for entry in order}
    return struct.pack("<Q", len(text)) + text, inside


class Writer:
    """A context that writes tensors to their places in `folder`, from any thread or process."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._layout = folder, layout
        self._open: dict[str, int] = {}

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open = {}

    def allocated(self) -> bool:
        """Whether every file exists at its full size."""
        paths = {self._folder / file: size for file, size in self._layout.sizes.items()}
        return all(path.exists() and path.stat().st_size == size for path, size in paths.items())

    def allocate(self) -> None:
        """Allocate every file and write headers and index. Files that exist at full size are kept.

        Raises:
            OSError: when there is not enough space; the file being allocated is removed.
        """
        for file, size in self._layout.sizes.items():
            path = self._folder / file
            if path.exists() and path.stat().st_size == size:
                continue
            fresh = path.with_name(f".{file}.new")  # renamed once it has its full size and header
            try:
                with fresh.open("wb") as opened:
                    os.posix_fallocate(opened.fileno(), 0, size)
                    opened.write(self._layout.headers[file])
                force_to_disk(fresh)
                fresh.rename(path)
            finally:
                fresh.unlink(missing_ok=True)
        if self._layout.index is not None:
            (self._folder / INDEX).write_text(self._layout.index, encoding="utf-8")

    def write(self, name: str, values: np.ndarray) -> None:
        """Write a tensor's bytes to their place.

        Raises:
            KeyError: for a name that is not in the layout.
            ValueError: when the number of bytes does not match the tensor's shape.
        """
        place = self._layout.places[name]
        view = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        if len(view) != place.size:
            raise ValueError(f"{name} has {len(view)} bytes, but needs {place.size}")
        handle, at = self._handle(place.file), place.start
        while view:
            written = os.pwrite(handle, view, at)
            view, at = view[written:], at + written

    def sync(self) -> None:
        """Force to disk every file written since the last sync."""
        for handle in self._open.values():
            os.fsync(handle)
        self.__exit__(None, None, None)
        force_to_disk(self._folder)

    def _handle(self, file: str) -> int:
        if file not in self._open:
            self._open[file] = os.open(self._folder / file, os.O_WRONLY)
        return self._open[file]


# safetensors 0.8.0 lays tensors out in this order of dtypes (`serialize`), and names within one.
_DTYPES = (
    "U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E8M0", "F8_E4M3", "F8_E5M2",
    "I8", "U8", "BOOL",
)  # fmt: skip
