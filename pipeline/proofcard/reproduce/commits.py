"""Which commit of this checkout a manifest's program was: by the digest of its code, else of its lock."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from proofcard import children, deciding
from proofcard.bundle import bundled
from proofcard.errors import Stop

_MOST = 400  # commits that are looked through; a syntax tree that was digested once is not again
_PACKAGE = "pipeline/proofcard"


def with_code(digest: str, engine: str) -> str | None:
    """The last commit whose modules that decide `engine`'s bytes have this digest, by today's list of them.

    None if there is no history, or the list has changed since.
    """
    for commit in _touching(_PACKAGE):
        with tempfile.TemporaryDirectory() as folder:
            archive = _git("archive", commit, _PACKAGE)
            try:
                _write_files(archive, Path(folder))
                if deciding.digest(deciding.of_quantize(engine), Path(folder) / _PACKAGE) == digest:
                    return commit
            except (OSError, tarfile.TarError, Stop, SyntaxError, ValueError):
                continue
    return None


def with_lock(sha256: str) -> str | None:
    """The last commit whose `uv.lock` has this sha256; None if there is no history."""
    newest = "HEAD"
    for commit in _touching("uv.lock"):
        if hashlib.sha256(_git("show", f"{commit}:uv.lock")).hexdigest() == sha256:
            return _git("rev-parse", newest).decode().strip() or None
        newest = f"{commit}^"
    return None


def _write_files(archive: bytes, folder: Path) -> None:
    """Regular files of a tar archive, below `folder` (`extractall` has no filter before Python 3.11.4)."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            path = folder / member.name
            content = members.extractfile(member) if member.isreg() else None
            if content is not None and ".." not in path.parts and not Path(member.name).is_absolute():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


def _touching(path: str) -> list[str]:
    """Commits that changed a path, the newest first; none outside a checkout of this repository."""
    root = bundled("uv.lock").parent
    if shutil.which("git") is None or _git("rev-parse", "--show-toplevel").decode().strip() != str(
        root.resolve()
    ):
        return []
    return _git("rev-list", f"--max-count={_MOST}", "HEAD", "--", path).decode().split()


def _git(*words: str) -> bytes:
    root = bundled("uv.lock").parent
    return subprocess.run(
        ["git", "-C", root, *words], capture_output=True, check=False, env=children.environment()
    ).stdout
