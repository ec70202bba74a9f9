"""The libraries that an ELF file asks for: those it is linked with, and those it opens by name."""

import re
import struct
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10
_X86_64 = 62
_LIBRARY = re.compile(rb"\0(lib[\w+-]+\.so(?:\.\d+)*)(?=\0)")


def needed(path: Path) -> list[str] | None:
    """Names of the shared libraries that a file is linked with; None if it is no ELF file for x86-64."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02" or len(head) < 64 or struct.unpack_from("<H", head, 18)[0] != _X86_64:
            return None
        start = struct.unpack_from("<Q", head, 32)[0]
        size, count = struct.unpack_from("<HH", head, 54)
        segments = []
        for number in range(count):
            file.seek(start + number * size)
            kind, _, offset, address, _, length, _, _ = struct.unpack("<IIQQQQQQ", file.read(56))
            segments.append((kind, offset, address, length))
        dynamic = next((segment for segment in segments if segment[0] == _PT_DYNAMIC), None)
        if dynamic is None:
            return []
        file.seek(dynamic[1])
        raw = file.read(dynamic[3])
        entries = list(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))
        values = dict(entries)
        if _DT_STRTAB not in values:
            return []
        table = values[_DT_STRTAB]
        offset = next(o + table - a for kind, o, a, n in segments if kind == _PT_LOAD and a <= table < a + n)
        file.seek(offset)
        strings = file.read(values[_DT_STRSZ])
    return [
        strings[value : strings.index(b"\0", value)].decode() for tag, value in entries if tag == _DT_NEEDED
    ]


def opened(path: Path) -> set[str]:
    """Names of libraries among the constants of an ELF file, which is where those stand that it opens."""
    with path.open("rb") as file:
        start = struct.unpack_from("<Q", file.read(64), 40)[0]
        file.seek(58)
        size, count, names = struct.unpack("<HHH", file.read(6))
        file.seek(start)
        table = file.read(size * count)
        sections = [struct.unpack_from("<IIQQQQ", table, number * size) for number in range(count)]
        file.seek(sections[names][4] if sections else 0)
        strings = file.read(sections[names][5]) if sections else b""
        found: set[str] = set()
        for name, _, _, _, offset, length in sections:
            if strings[name : strings.index(b"\0", name)].endswith(b"rodata"):
                file.seek(offset)
                found |= {match.decode() for match in _LIBRARY.findall(b"\0" + file.read(length))}
    return found
