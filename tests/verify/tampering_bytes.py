"""Tamperings with bytes and headers of safetensors files."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from verify.making import load
from verify.tampered import INDEX, Done, Random, write


def flip_bit(folder: Path, chance: Random) -> Done:
    path = _shard(folder, chance)
    content = bytearray(path.read_bytes())
    header, base = _header(bytes(content))
    name = chance.choice(sorted(header.keys() - {"__metadata__"}))  # small tensors as often as large ones
    first, last = header[name]["data_offsets"]
    at, bit = base + chance.randrange(first, last), chance.randrange(8)
    content[at] ^= 1 << bit
    write(path, bytes(content))
    return Done(f"bit {bit} of byte {at} ({name})", "calibrated" if calibrated(name) else None)


def overwrite(folder: Path, chance: Random) -> Done:
    path = _shard(folder, chance)
    content = bytearray(path.read_bytes())
    header, base = _header(bytes(content))
    name = chance.choice(sorted(n for n in header if n != "__metadata__" and not calibrated(n)))
    first, last = header[name]["data_offsets"]
    start = chance.randrange(first, last)
    end = min(last, start + chance.randrange(1, 65))
    value = chance.choice([b"\0", b"\xff", None])
    new = chance.randbytes(end - start) if value is None else value * (end - start)
    if content[base + start : base + end] == new:
        new = bytes(byte ^ 0x5A for byte in new)
    content[base + start : base + end] = new
    write(path, bytes(content))
    return Done(f"bytes {start} to {end} of {name}")


def cut_or_grow(folder: Path, chance: Random) -> Done:
    path, content = (p := _shard(folder, chance)), p.read_bytes()
    size = chance.randrange(1, 200)
    longer = chance.random() < 0.5
    write(path, content + b"\0" * size if longer else content[:-size])
    return Done(f"{'+' if longer else '-'}{size} bytes at the end of {path.name}")


def break_header(folder: Path, chance: Random) -> Done:
    path = _shard(folder, chance)
    content = bytearray(path.read_bytes())
    at = chance.randrange(8) if chance.random() < 0.3 else chance.randrange(8, _header(bytes(content))[1])
    while (value := chance.randrange(256)) == content[at]:
        pass
    old, content[at] = content[at], value
    write(path, bytes(content))
    blank = bytes([old, value]) == b"  " or _same_header(folder, path)
    return Done(
        f"byte {at} of the header of {path.name}: {old} to {value}", "same tensors" if blank else None
    )


def header_metadata(folder: Path, chance: Random) -> Done:
    path = _shard(folder, chance)
    changed = _rewritten(
        path.read_bytes(), lambda h: h.setdefault("__metadata__", {}).update(x=str(chance.random()))
    )
    write(path, changed)
    return Done("metadata in a header", "same tensors")


def header_names(folder: Path, chance: Random) -> Done:
    """Two names exchange what they name, of one dtype and shape or not."""
    path = _shard(folder, chance)
    header, _ = _header(path.read_bytes())
    names = sorted(n for n in header if n != "__metadata__" and not calibrated(n))
    one, other = chance.sample(names, 2)
    write(path, _rewritten(path.read_bytes(), lambda h: h.update({one: header[other], other: header[one]})))
    tensors = load(folder)
    same = tensors[one][0] == tensors[other][0] and np.array_equal(tensors[one][1], tensors[other][1])
    return Done(f"{one} and {other} exchanged", "same tensors" if same else None)


def header_dtype(folder: Path, chance: Random) -> Done:
    path = _shard(folder, chance)
    header, _ = _header(path.read_bytes())
    alike = {
        "U8": ["I8", "F8_E4M3", "F8_E5M2", "BOOL"], "F8_E4M3": ["U8", "I8", "F8_E5M2", "F8_E8M0"],
        "BF16": ["F16", "I16", "U16"], "F32": ["I32", "U32"],
    }  # fmt: skip
    name = chance.choice(sorted(header.keys() - {"__metadata__"}))
    to = chance.choice(alike[header[name]["dtype"]])
    write(path, _rewritten(path.read_bytes(), lambda h: h[name].update(dtype=to)))
    return Done(f"{name} as {to}")


def header_shape(folder: Path, chance: Random) -> Done:
    path = _shard(folder, chance)
    header, _ = _header(path.read_bytes())
    name = chance.choice(sorted(header.keys() - {"__metadata__"}))
    shape = header[name]["shape"]
    count = int(np.prod(shape, dtype=int))
    shapes = [[count], [1, count], [count, 1], shape[::-1], [*shape, 1], [1, *shape], [2, count // 2]]
    new = chance.choice([s for s in shapes if s != shape and int(np.prod(s, dtype=int)) == count])
    write(path, _rewritten(path.read_bytes(), lambda h: h[name].update(shape=new)))
    return Done(f"{name} {shape} as {new}", "same tensors" if (shape, new) == ([], [1]) else None)


def _shard(folder: Path, chance: Random) -> Path:
    return chance.choice(sorted(folder.glob("*.safetensors")))


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), 8 + size


def _rewritten(content: bytes, change: Callable[[dict[str, Any]], Any], pad: int = 8) -> bytes:
    header, base = _header(content)
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % pad)
    return struct.pack("<Q", len(text)) + text + content[base:]


def _same_header(folder: Path, path: Path) -> bool:
    """Whether a changed byte changed only a name or a value of the metadata."""
    try:
        header, base = _header(path.read_bytes())
        return set(header) - set(json.loads((folder / INDEX).read_text())["weight_map"]) == {
            "__metadata__"
        } and (base > 8)
    except (ValueError, KeyError, struct.error):
        return False


def calibrated(name: str) -> bool:
    """Whether calibration decides a tensor's value."""
    return name.rpartition(".")[2] in ("input_scale", "k_scale", "v_scale")
