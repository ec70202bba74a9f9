"""Digests: of files, of folders, and of JSON values in one canonical form."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proofcard.files import located, opened, readable

_CHUNK = 1 << 22


def sha256_file(path: Path, root: Path | None = None) -> str:
    """Hex sha256 of a file's bytes, read in 4 MiB pieces. Raises as `files.opened`."""
    digest = hashlib.sha256()
    with opened(path, root) as file, readable(path):
        size = os.fstat(file.fileno()).st_size
        piece = min(_CHUNK, size + 1)  # of a small file, not the memory for a large one
        while chunk := file.read(piece):
            digest.update(chunk)
    return digest.hexdigest()


def is_sealed(path: Path, root: Path, size: int, sha256: str) -> bool:
    """Whether a file has the size in bytes and the digest in a manifest. Raises as `files.opened`.

    Sizes are compared first, so that a sparse file of terabytes costs nothing.
    """
    return located(path, root).stat().st_size == size and sha256_file(path, root) == sha256


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON value's canonical form, UTF-8."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def readable_json(value: Any) -> str:
    """The layout of all JSON files that we write: sorted keys, indent 1, final newline."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def file_table(root: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """`{relative name: {"size": bytes, "sha256": hex}}`, sorted by name. Raises as `files.opened`."""
    named = dict(sorted((path.relative_to(root).as_posix(), path) for path in files))

    def entry(path: Path) -> dict[str, Any]:
        return {"size": path.stat().st_size, "sha256": sha256_file(path, root)}

    from proofcard.progress import over_files  # rich, which most uses of this module do without

    return dict(zip(named, over_files("hashing", entry, list(named.values())), strict=True))


def all_files(root: Path) -> list[Path]:
    """Every file below `root`, links included, sorted by relative name."""
    found = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
