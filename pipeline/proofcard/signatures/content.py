"""The bytes that a model's signature is over: whole files, or ranges of them (model-signing's `shards`)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from proofcard.files import opened, plain, readable
from proofcard.signatures.bundle import Malformed
from proofcard.signatures.statement import Signed

ALGORITHMS = ("sha256", "blake2b")
"""Model-signing can also use BLAKE3, which Python does not have."""

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `end` of a file, the end not included; None for the whole file."""

    digest: str
    start: int
    end: int | None


def parts_of(signed: Signed) -> dict[str, list[Part]]:
    """What was signed of each file, ranges by their beginning.

    Raises:
        Malformed: for an unknown method, and a range that is none.
    """
    if signed.method == "files":
        return {name: [Part(digest, 0, None)] for name, digest in signed.digests.items()}
    if signed.method != "shards":
        raise Malformed(f"the files were hashed by the method {plain(signed.method)!r}, which is not known")
    parts: dict[str, list[Part]] = {}
    for shard, digest in signed.digests.items():
        name, *ends = shard.rsplit(":", 2)
        if len(ends) != 2 or not all(end.isascii() and end.isdigit() and len(end) < 20 for end in ends):
            raise Malformed(f"{plain(shard)!r} is not a range of a file")
        parts.setdefault(name, []).append(Part(digest, int(ends[0]), int(ends[1])))
    return {name: sorted(ranges, key=lambda part: part.start) for name, ranges in parts.items()}


def digest_of(path: Path, root: Path, algorithm: str, part: Part) -> str:
    """Hex digest of a part of a file. Raises as `files.opened`."""
    digest = hashlib.new(algorithm)
    with opened(path, root) as file, readable(path):
        file.seek(part.start)
        left = part.end - part.start if part.end is not None else None
        while left is None or left > 0:
            chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not chunk:
                break
            digest.update(chunk)
            left = None if left is None else left - len(chunk)
    return digest.hexdigest()
