"""Reads safetensors files as raw bits: headers and the bytes of tensors, without torch.

Layout (safetensors format): 8 bytes little-endian header length, a JSON header, the tensors' bytes. Bytes are
read, not mapped: a file that is cut or changed meanwhile is then an error with a name, not a dead process.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofcard import json_files
from proofcard.checkpoint import reading
from proofcard.checkpoint.reading import Seen, TensorFileError, seen_of
from proofcard.checkpoint.shards import weight_files
from proofcard.digest import all_files
from proofcard.files import opened, plain, readable

_CHUNK = 1 << 20  # hashed twice while it is in the cache
LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library
_PARTS = 6_000_000  # keys, values and brackets of a header, about 12 for a tensor
_LONGEST_NAME, _DEEPEST_NAME = 500, 40  # characters, and nested modules
_MOST_TENSORS = 600_000  # of a folder; DeepSeek-V3 has 180,000 in NVFP4, Kimi K2 276,000
_MOST_DIMENSIONS = 32  # as in numpy
_MOST_MODULES = 1 << 29  # characters in the names of all modules, counted once per tensor below them

BITS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",
    "F8_E8M0": "u1", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's bytes are: `size` bytes at offset `start` in `path`.

    `seen` is what the file was when its header was read: reading from another one is refused.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    seen: Seen | None = None

    def bits(self) -> NDArray[Any]:
        """A copy of the tensor; BF16 as uint16 and FP8 as uint8 bits.

        Raises:
            TensorFileError: when the file was deleted, truncated or changed since its header was read.
            Refused, Unreadable: as `files.opened`.
        """
        return self.raw().view(BITS[self.dtype]).reshape(self.shape)

    def raw(self) -> NDArray[np.uint8]:
        """A copy of the tensor's bytes, one dimension. Raises as `bits`."""
        return self._read(0, self.size)

    def pieces(self, size: int = 1 << 22) -> Iterator[NDArray[np.uint8]]:
        """The tensor's bytes, `size` at a time. Raises as `bits`."""
        for first in range(0, self.size, size):
            yield self._read(first, min(size, self.size - first))

    def fill(self, into: NDArray[np.uint8], first: int = 0) -> NDArray[np.uint8]:
        """Bytes of the tensor from `first` on, as many as `into` holds; returns it. Raises as `bits`."""
        return reading.read(self.path, self.seen, self.start + first, into.size, self.name, into)

    def sha256(self) -> str:
        """Hex sha256 of the tensor's bytes. Raises as `bits`."""
        digest = hashlib.sha256()
        for piece in self.pieces(_CHUNK):
            digest.update(piece.data)
        return digest.hexdigest()

    def _read(self, first: int, size: int) -> NDArray[np.uint8]:
        return reading.read(self.path, self.seen, self.start + first, size, self.name)


def read_header(path: Path) -> dict[str, Tensor]:
    """Every tensor of one file by name.

    Raises:
        TensorFileError: when the header is not JSON, or its offsets leave a gap, overlap, or miss the end.
        Refused, Unreadable: as `files.opened`.
    """
    with opened(path, path.parent, partly=True) as file, readable(path):
        seen = seen_of(file.fileno())
        length = seen[2]
        head = file.read(8)
        header_size = struct.unpack("<Q", head)[0] if len(head) == 8 else length
        if header_size > length - 8:
            raise TensorFileError(
                f"{plain(path.name)} is not a safetensors file: its header extends past its end"
            )
        if header_size > LONGEST_HEADER:
            raise _bad_header(path, f"it has {header_size:,} bytes, at most {LONGEST_HEADER:,} are read")
        text = file.read(header_size)
    try:
        header = json_files.parse(text, "it", most=_PARTS)
    except json_files.JsonError as error:
        raise _bad_header(path, str(error)) from None
    if not isinstance(header, dict):
        raise _bad_header(path, "it is not a JSON object")
    header.pop("__metadata__", None)
    return described(path, header, 8 + header_size, length, seen)


def described(
    path: Path, header: dict[str, Any], base: int, length: int, seen: Seen | None = None
) -> dict[str, Tensor]:
    """Every tensor in a file's header; the data start at byte `base` of `length`.

    Raises:
        TensorFileError: when an entry is not valid, or the offsets leave a gap, overlap, or miss the end.
    """
    try:
        tensors = [_entry(path, base, name, entry, seen) for name, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _bad_header(path, plain(error)) from None
    tensors.sort(key=lambda tensor: (tensor.start, tensor.size))
    end = base
    for tensor in tensors:
        if tensor.start != end:
            raise TensorFileError(
                f"{plain(path.name)}: {plain(tensor.name)} starts at byte {tensor.start}, expected {end}"
            )
        end += tensor.size
    if end != length:
        raise TensorFileError(f"{plain(path.name)} has {length} bytes, but its header describes {end}")
    return {tensor.name: tensor for tensor in tensors}


def _bad_header(path: Path, why: str) -> TensorFileError:
    return TensorFileError(f"{plain(path.name)} is not a valid safetensors file: bad header ({why})")


def _entry(path: Path, base: int, name: str, entry: dict[str, Any], seen: Seen | None) -> Tensor:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"{plain(name, 60)} has no dtype, shape and data_offsets")
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME or name.count(".") >= _DEEPEST_NAME:
        raise ValueError(f"{plain(name, 60)!r} ({len(name):,} characters) is not a valid tensor name")
    if (dtype := entry["dtype"]) not in BITS:
        raise ValueError(f"{name} has the unsupported dtype {plain(dtype, 40)!r}")
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    for number in (*shape, first, last):
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise ValueError(f"{name} has {plain(number, 40)} as a size or offset")
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions")
    size = prod(shape) * np.dtype(BITS[dtype]).itemsize
    if last - first != size:
        raise ValueError(f"{name} has {last - first} bytes, but its shape needs {plain(size, 40)}")
    return Tensor(name, path, dtype, shape, base + first, size, seen)


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Every tensor in a folder's weight files, as listed by `shards.weight_files`.

    Raises:
        TensorFileError: when there is none, two files have a tensor of the same name, or there are too many.
        Stop: as `weight_files`, and as `read_header`.
    """
    files = weight_files(folder)
    if not files:
        raise TensorFileError(f"{plain(folder)} has no .safetensors file")
    return united(read_header(path) for path in files)


def united(files: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several files.

    Raises:
        TensorFileError: when two have a tensor of the same name, or there are more than any model has.
    """
    tensors: dict[str, Tensor] = {}
    modules = 0
    for names in files:
        if duplicates := sorted(tensors.keys() & names.keys()):
            first, again = tensors[duplicates[0]].path.name, names[duplicates[0]].path.name
            raise TensorFileError(f"{duplicates[0]} is in both {plain(first)} and {plain(again)}")
        tensors |= names
        modules = check_amount(tensors, names, modules)
    return tensors


def check_amount(tensors: dict[str, Tensor], names: Iterable[str], modules: int) -> int:
    """`modules` plus what the new tensor `names` add to it.

    Raises:
        TensorFileError: for more tensors, or longer module names, than can be kept in memory.
    """
    modules += sum(len(name) * name.count(".") for name in names)
    if len(tensors) > _MOST_TENSORS or modules > _MOST_MODULES:
        raise TensorFileError(
            f"too many tensors for a model: {len(tensors):,}, with {modules:,} characters of module names"
        )
    return modules


def digests(
    path: Path, tensors: list[Tensor], tick: Callable[[int], None] = lambda _: None, root: Path | None = None
) -> tuple[str, dict[str, str]]:
    """Hex sha256 of the file and of each tensor. Reads every byte once; `tick` is called with byte counts.

    `tensors` come from `read_header`, in the order of their offsets, without gaps. A file in a subfolder
    needs the top folder as `root`.

    Raises:
        Refused, Unreadable: as `files.opened`.
    """
    if (coming := reading.comes_in(path, root or path.parent)) is not None:
        folder, name = coming
        known, each = folder.digests(name)
        tick(path.stat().st_size)
        return known, each
    whole = hashlib.sha256()
    inside: dict[str, str] = {}
    with opened(path, root or path.parent) as file, readable(path):
        place = 0

        def feed(end: int | None, digest: Any = None) -> None:
            nonlocal place
            while end is None or place < end:
                chunk = file.read(_CHUNK if end is None else min(_CHUNK, end - place))
                if not chunk:
                    return
                place += len(chunk)
                whole.update(chunk)
                if digest is not None:
                    digest.update(chunk)
                tick(len(chunk))

        for tensor in tensors:
            feed(tensor.start)
            digest = hashlib.sha256()
            feed(tensor.start + tensor.size, digest)
            inside[tensor.name] = digest.hexdigest()
        feed(None)
    return whole.hexdigest(), inside


def output_tables(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A manifest's `files`, `{name: {"size", "sha256"}}`, and `tensors`, `{name: {"file", "dtype", …}}`.

    Both sorted by name, over everything below `folder`; every byte is read once.
    """
    inside: dict[Path, list[Tensor]] = {}
    for tensor in read_folder(folder).values() if weight_files(folder) else ():
        inside.setdefault(tensor.path, []).append(tensor)
    from proofcard.progress import over_files  # rich, which most uses of this module do without

    files: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    paths = all_files(folder)
    found = over_files("sealing", lambda path: digests(path, inside.get(path, []), root=folder), paths)
    for path, (whole, each) in zip(paths, found, strict=True):
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": whole}
        for tensor in inside.get(path, []):
            tensors[tensor.name] = {
                "file": path.name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "sha256": each[tensor.name],
            }
    return files, dict(sorted(tensors.items()))
