"""What somebody may send instead of a checkpoint, and bounds within which it has to be refused."""

import json
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS, BYTES = 10, 1 << 30


@contextmanager
def bounded(seconds: float = SECONDS, size: int = BYTES) -> Iterator[None]:
    """A context that fails after so many seconds of CPU, and has so much memory beyond what is taken now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_: Any) -> None:
        raise AssertionError(f"it takes more than {seconds} s")

    was = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, before[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, was)


def sparse(path: Path, size: int, begins: bytes = b"") -> None:
    """A file of that size that takes no room on the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(begins)
    os.truncate(path, size)


def tensors(path: Path, header: Any, data: int = 0) -> None:
    """A safetensors file with that header, and so many bytes of data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    begins = struct.pack("<Q", len(text)) + text
    sparse(path, len(begins) + data, begins)


def entry(shape: list[Any], first: int = 0, last: int | None = None, dtype: str = "U8") -> dict[str, Any]:
    """What a header says of a tensor."""
    end = first + (shape[0] if shape else 1) if last is None else last
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}


def one(name: str) -> dict[str, Any]:
    """A header with one tensor of one byte."""
    return {name: entry([1])}


def many(count: int) -> bytes:
    """A header with so many empty tensors, some thousands at a time."""
    each = "".join(f',"t.#{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(1000))
    rows = [each.replace("#", f"{thousand}.") for thousand in range(count // 1000)]
    return b"{" + "".join(rows)[1:].encode() + b"}"


def modules(count: int) -> bytes:
    """A header with names of many long modules, every one of them another."""
    middle = ".".join(["x" * 11] * 38)
    rows = (f'"{n}.{middle}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(count))
    return b"{" + ",".join(rows).encode() + b"}"


FACTOR = 67280421310721  # of 2**64 + 1
Writer = Callable[[Path], Any]

HEADERS: dict[str, Writer] = {
    "4 GB of header": lambda p: sparse(p, (4 << 30) + 100, struct.pack("<Q", 4 << 30)),
    "100 MB and a byte": lambda p: sparse(p, 100_000_100, struct.pack("<Q", 100_000_001)),
    "100 MB of spaces": lambda p: tensors(p, b"{" + b" " * 99_999_998),
    "a header of 2**64 - 1 bytes": lambda p: sparse(p, 100, struct.pack("<Q", (1 << 64) - 1)),
    "a header that runs past the end": lambda p: sparse(p, 100, struct.pack("<Q", 1000)),
    "nothing": lambda p: p.write_bytes(b""),
    "three bytes": lambda p: p.write_bytes(b"abc"),
    "eight zeros": lambda p: p.write_bytes(b"\0" * 8),
    "a list": lambda p: tensors(p, []),
    "a number": lambda p: tensors(p, 1),
    "null": lambda p: tensors(p, None),
    "cut JSON": lambda p: tensors(p, b'{"a":'),
    "not UTF-8": lambda p: tensors(p, b'{"\xff":1}'),
    "a byte order mark": lambda p: tensors(p, b"\xef\xbb\xbf{}"),
    "UTF-16": lambda p: tensors(p, json.dumps(one("a")).encode("utf-16")),
    "100,000 lists in each other": lambda p: tensors(p, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "65 lists in each other": lambda p: tensors(p, b'{"a":' + b"[" * 65 + b"]" * 65 + b"}"),
    "a name of 100,000 dots": lambda p: tensors(p, one("." * 100_000), 1),
    "a name of 41 modules": lambda p: tensors(p, one("a." * 40 + "weight"), 1),
    "a name of 501 letters": lambda p: tensors(p, one("a" * 501), 1),
    "a name with a new line": lambda p: tensors(p, one("a\nverified"), 1),
    "a name with an escape": lambda p: tensors(p, one("a\x1b[2J"), 1),
    "a name with NUL": lambda p: tensors(p, one("a\0b"), 1),
    "a name that turns the line round": lambda p: tensors(p, one("a\u202eb"), 1),
    "a name of half a pair": lambda p: tensors(p, one("\ud800"), 1),
    "no name": lambda p: tensors(p, one(""), 1),
    "an entry that is a list": lambda p: tensors(p, {"a": [1]}),
    "an entry that is null": lambda p: tensors(p, {"a": None}),
    "no dtype": lambda p: tensors(p, {"a": {"shape": [1], "data_offsets": [0, 1]}}, 1),
    "no shape": lambda p: tensors(p, {"a": {"dtype": "U8", "data_offsets": [0, 1]}}, 1),
    "no offsets": lambda p: tensors(p, {"a": {"dtype": "U8", "shape": [1]}}, 1),
    "an unknown dtype": lambda p: tensors(p, {"a": entry([1], dtype="F9")}, 1),
    "a dtype that is a list": lambda p: tensors(p, {"a": entry([1]) | {"dtype": ["U8"]}}, 1),
    "a dtype that is an object": lambda p: tensors(p, {"a": entry([1]) | {"dtype": {}}}, 1),
    "a negative extent": lambda p: tensors(p, {"a": entry([-1], last=1)}, 1),
    "two negative extents": lambda p: tensors(p, {"a": entry([-1, -1], last=1)}, 1),
    "an extent that is true": lambda p: tensors(p, {"a": entry([True], last=1)}, 1),
    "an extent of 1.0": lambda p: tensors(p, {"a": entry([1.0], last=1)}, 1),
    "an extent that is text": lambda p: tensors(p, {"a": entry(["1"], last=1)}, 1),
    "an extent of 2**64": lambda p: tensors(p, {"a": entry([1 << 64, 0], last=0)}),
    "extents whose product is 2**64": lambda p: tensors(p, {"a": entry([1 << 32, 1 << 32], last=0)}),
    "extents whose product is 2**64 + 1": lambda p: tensors(p, {"a": entry([274177, FACTOR], last=1)}, 1),
    "a number of 5,000 digits": lambda p: tensors(p, b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b"]}}"),
    "NaN": lambda p: tensors(p, b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', 1),
    "1e999": lambda p: tensors(p, b'{"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}}', 1),
    "200 dimensions": lambda p: tensors(p, {"a": entry([1] * 200)}, 1),
    "a shape that is a number": lambda p: tensors(p, {"a": entry([1]) | {"shape": 1}}, 1),
    "negative offsets": lambda p: tensors(p, {"a": entry([1], -1, 0)}, 1),
    "offsets turned round": lambda p: tensors(p, {"a": entry([1], 1, 0)}, 1),
    "three offsets": lambda p: tensors(p, {"a": entry([1]) | {"data_offsets": [0, 1, 1]}}, 1),
    "offsets beyond the end": lambda p: tensors(p, {"a": entry([1 << 40])}, 1),
    "a gap": lambda p: tensors(p, {"a": entry([1]), "b": entry([1], 2, 3)}, 3),
    "an overlap": lambda p: tensors(p, {"a": entry([2]), "b": entry([2], 1, 3)}, 3),
    "bytes of no tensor": lambda p: tensors(p, {"a": entry([1])}, 2),
    "a name twice, differently": lambda p: tensors(
        p, json.dumps(one("a") | {"b": entry([1], dtype="I8")}).replace('"b"', '"a"').encode(), 1
    ),
    "20 GB for a byte": lambda p: tensors(p, one("a"), 20 << 30),
    "650,000 tensors": lambda p: tensors(p, many(650_000)),
    "1,400,000 tensors": lambda p: tensors(p, many(1_400_000)),
    "names of 1,300,000 modules": lambda p: tensors(p, modules(34_000)),
}  # fmt: skip
"""Safetensors files that nothing but a sentence may come of."""

JSONS: dict[str, Writer] = {
    "4 GB": lambda p: sparse(p, 4 << 30, b"{"),
    "nothing": lambda p: p.write_bytes(b""),
    "a list": lambda p: p.write_bytes(b"[]"),
    "null": lambda p: p.write_bytes(b"null"),
    "text": lambda p: p.write_bytes(b'"config"'),
    "a number": lambda p: p.write_bytes(b"7"),
    "cut": lambda p: p.write_bytes(b'{"model_type": "llama"'),
    "two objects": lambda p: p.write_bytes(b"{} {}"),
    "not UTF-8": lambda p: p.write_bytes(b'{"a": "\xff"}'),
    "UTF-16": lambda p: p.write_bytes('{"a": 1}'.encode("utf-16")),
    "a byte order mark": lambda p: p.write_bytes(b"\xef\xbb\xbf{}"),
    "zeros": lambda p: p.write_bytes(b"\0" * 100),
    "100,000 lists in each other": lambda p: p.write_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "500 objects in each other": lambda p: p.write_bytes(b'{"a":' * 500 + b"1" + b"}" * 500),
    "65 lists in each other": lambda p: p.write_bytes(b'{"a":' + b"[" * 65 + b"]" * 65 + b"}"),
    "a number of 5,000 digits": lambda p: p.write_bytes(b'{"a": ' + b"9" * 5000 + b"}"),
    "a number of 100 digits": lambda p: p.write_bytes(b'{"a": -' + b"9" * 100 + b"}"),
    "NaN": lambda p: p.write_bytes(b'{"a": NaN}'),
    "a key twice": lambda p: p.write_bytes(b'{"a": 1, "a": 2}'),
    "a key twice, inside": lambda p: p.write_bytes(b'{"a": [{"b": 1, "b": true}]}'),
    "half a surrogate pair": lambda p: p.write_bytes(b'{"a": "\\uD800"}'),
    "half a surrogate pair as a key": lambda p: p.write_bytes(b'{"\\udfff": 1}'),
    "15 MB of lists": lambda p: p.write_bytes(b'{"a":[' + b"[]," * 5_000_000 + b"[]]}"),
    "a comment": lambda p: p.write_bytes(b'{"a": 1} // mine'),
    "a link out": lambda p: (p.unlink(missing_ok=True), p.symlink_to("/etc/passwd")),
    "a link to a device": lambda p: (p.unlink(missing_ok=True), p.symlink_to("/dev/zero")),
    "a link to itself": lambda p: (p.unlink(missing_ok=True), p.symlink_to(p.name)),
    "a link to nothing": lambda p: (p.unlink(missing_ok=True), p.symlink_to("nothing")),
    "a pipe": lambda p: (p.unlink(missing_ok=True), os.mkfifo(p)),
    "a folder": lambda p: (p.unlink(missing_ok=True), p.mkdir()),
}  # fmt: skip
"""Files that nothing but a sentence may come of where a JSON object is read."""
