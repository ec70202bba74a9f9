"""Safetensors files as raw bits: headers and memory-mapped tensors, without torch.

Layout (safetensors format): 8 bytes little-endian header length, a JSON header, the tensors' bytes.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofcard.digest import all_files
from proofcard.errors import Stop

_CHUNK = 1 << 20  # hashed twice while it is in the cache

BITS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",
    "F8_E8M0": "u1", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1",
}  # fmt: skip


class TensorFileError(Stop):
    """A safetensors file whose header does not describe its bytes."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes lie: `start` and `size` in bytes from the beginning of `path`."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def bits(self) -> NDArray[Any]:
        """The tensor memory-mapped, read-only; BF16 as uint16 and FP8 as uint8 bits."""
        if self.size == 0:
            return np.empty(self.shape, BITS[self.dtype])
        dtype = np.dtype(BITS[self.dtype])
        if self.start % dtype.itemsize:
            return np.frombuffer(self.raw().tobytes(), dtype).reshape(self.shape)
        return np.memmap(self.path, dtype, "r", self.start, self.shape)

    def sha256(self) -> str:
        """Hex sha256 of the tensor's bytes."""
        return hashlib.sha256(self.raw().data).hexdigest()

    def raw(self) -> NDArray[np.uint8]:
        """The tensor's bytes memory-mapped, read-only, one dimension."""
        if self.size == 0:
            return np.empty(0, np.uint8)
        return np.memmap(self.path, np.uint8, "r", self.start, (self.size,))


def read_header(path: Path) -> dict[str, Tensor]:
    """Every tensor of one file by name.

    Raises:
        TensorFileError: when the header is no JSON, or its offsets leave a gap, overlap, or miss the end.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        header_size = struct.unpack("<Q", head)[0] if len(head) == 8 else length
        if header_size > length - 8:
            raise TensorFileError(f"{path.name} is no safetensors file: its header runs past its end")
        try:
            header = json.loads(file.read(header_size).decode())
            header.pop("__metadata__", None)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise _bad_header(path, error) from None
    return described(path, header, 8 + header_size, length)


def described(path: Path, header: dict[str, Any], base: int, length: int) -> dict[str, Tensor]:
    """Every tensor that a file's header describes; its data begin at byte `base` of `length`.

    Raises:
        TensorFileError: when the offsets leave a gap, overlap, or miss the end.
    """
    try:
        tensors = [_entry(path, base, name, said) for name, said in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _bad_header(path, error) from None
    tensors.sort(key=lambda tensor: (tensor.start, tensor.size))
    end = base
    for tensor in tensors:
        if tensor.start != end:
            raise TensorFileError(f"{path.name}: {tensor.name} starts at byte {tensor.start}, expected {end}")
        end += tensor.size
    if end != length:
        raise TensorFileError(f"{path.name} has {length} bytes, its header describes {end}")
    return {tensor.name: tensor for tensor in tensors}


def _bad_header(path: Path, error: Exception) -> TensorFileError:
    return TensorFileError(f"{path.name} is no safetensors file: bad header ({error})")


def _entry(path: Path, base: int, name: str, said: dict[str, Any]) -> Tensor:
    first, last = said["data_offsets"]
    shape = tuple(int(extent) for extent in said["shape"])
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(BITS[said["dtype"]]).itemsize
    if last - first != size:
        raise ValueError(f"{name} has {last - first} bytes, its shape needs {size}")
    return Tensor(name, path, said["dtype"], shape, base + first, size)


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Every tensor of every `*.safetensors` file in a folder.

    Raises:
        TensorFileError: when there is none, or two files hold a tensor of the same name.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TensorFileError(f"{folder} holds no .safetensors file")
    return united(read_header(path) for path in files)


def united(files: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several files. Raises TensorFileError when two hold one of the same name."""
    tensors: dict[str, Tensor] = {}
    for found in files:
        if twice := sorted(tensors.keys() & found.keys()):
            first, again = tensors[twice[0]].path.name, found[twice[0]].path.name
            raise TensorFileError(f"{twice[0]} is in {first} and again in {again}")
        tensors |= found
    return tensors


def digests(
    path: Path, tensors: list[Tensor], tick: Callable[[int], None] = lambda _: None
) -> tuple[str, dict[str, str]]:
    """Hex sha256 of the file, and of each tensor; every byte is read once, and `tick` told how many.

    `tensors` are `read_header`'s, in the order of their bytes, without gaps. Reads instead of a mapping: a
    file cut short meanwhile is then a difference, not a dead process.
    """
    whole = hashlib.sha256()
    inside: dict[str, str] = {}
    with path.open("rb", buffering=_CHUNK) as file:

        def through(end: int | None, digest: Any = None) -> None:
            while end is None or file.tell() < end:
                chunk = file.read(_CHUNK if end is None else min(_CHUNK, end - file.tell()))
                if not chunk:
                    return
                whole.update(chunk)
                if digest is not None:
                    digest.update(chunk)
                tick(len(chunk))

        for tensor in tensors:
            through(tensor.start)
            digest = hashlib.sha256()
            through(tensor.start + tensor.size, digest)
            inside[tensor.name] = digest.hexdigest()
        through(None)
    return whole.hexdigest(), inside


def output_tables(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A manifest's `files`, `{name: {"size", "sha256"}}`, and `tensors`, `{name: {"file", "dtype", …}}`.

    Both sorted by name, over everything below `folder`; every byte is read once.
    """
    inside: dict[Path, list[Tensor]] = {}
    for tensor in read_folder(folder).values() if any(folder.glob("*.safetensors")) else ():
        inside.setdefault(tensor.path, []).append(tensor)
    files: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    for path in all_files(folder):
        whole, each = digests(path, inside.get(path, []))
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": whole}
        for tensor in inside.get(path, []):
            tensors[tensor.name] = {
                "file": path.name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "sha256": each[tensor.name],
            }
    return files, dict(sorted(tensors.items()))
