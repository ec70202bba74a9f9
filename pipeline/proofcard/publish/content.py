"""What of a checkpoint's folder goes out: the sealed files, their manifest, and what lies beside them."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from proofcard import manifest as manifests
from proofcard.beside_seal import may_lie_beside
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.files import located, read_bytes

_LARGEST = 64 << 20  # bytes of a file that is not sealed
_STAYS = (
    ".gitattributes",
    ".gitignore",
)  # the hub's own decide what is stored how, and nothing is to be ignored
_CACHE = ".cache/"  # what a download left


@dataclass(frozen=True)
class Outgoing:
    """A file by its name in the repository. What is not sealed goes out as `content`, as it was checked."""

    name: str
    size: int
    sha256: str
    sealed: bool
    path: Path
    content: bytes | None = None


def outgoing(checkpoint: Path, sealed: Manifest) -> list[Outgoing]:
    """Every file that goes out, sealed ones first, by name.

    Raises:
        Stop: for a file that cannot be read, lies outside the folder, or is too large for one beside a seal.
    """
    found = [
        Outgoing(name, entry.size, entry.sha256, True, located(checkpoint / name, checkpoint))
        for name, entry in sorted(sealed.outputs.files.items())
    ]
    for name in [manifests.NAME, *_beside(checkpoint, sealed)]:
        try:
            content = read_bytes(checkpoint / name, checkpoint, _LARGEST)
        except FileNotFoundError:
            raise Stop(f"{checkpoint / name} was removed meanwhile") from None
        digest = hashlib.sha256(content).hexdigest()
        found.append(Outgoing(name, len(content), digest, False, checkpoint / name, content))
    return found


def _beside(checkpoint: Path, sealed: Manifest) -> list[str]:
    """The names of files beside the sealed ones that are published with them."""
    names = []
    for folder, _, files in os.walk(checkpoint):
        inside = Path(folder).relative_to(checkpoint)
        names += [(inside / file).as_posix() for file in files]
    return sorted(
        name
        for name in names
        if name not in sealed.outputs.files
        and may_lie_beside(name)
        and name not in _STAYS
        and not name.startswith(_CACHE)
    )
