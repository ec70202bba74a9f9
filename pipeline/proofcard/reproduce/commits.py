"""Which commit of this checkout a manifest's program was: by the digest of its code, else of its lock."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from proofcard import children, deciding, syntax
from proofcard.bundle import bundled

_MOST = 400  # commits that are looked through; a version of a file is read once
_PACKAGE = "pipeline/proofcard"


def with_code(digest: str, engine: str) -> str | None:
    """The last commit whose modules that decide `engine`'s bytes have this digest, by today's list of them.

    None if there is no history, or the list has changed since.
    """
    modules = deciding.of_quantize(engine)
    known: dict[str, str] = {}  # a version's digest, by git's id of it
    seen = set()
    for commit, versions in _versions(_touching(_PACKAGE), modules):
        if versions in seen:
            continue
        seen.add(versions)
        try:
            for version in versions:
                if version not in known:
                    known[version] = syntax.digest(_git("cat-file", "blob", version).decode())
        except (SyntaxError, ValueError):
            continue
        if deciding.together({m: known[v] for m, v in zip(modules, versions, strict=True)}) == digest:
            return commit
    return None


def _versions(commits: list[str], modules: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Git's ids of the modules' files in each commit, but for a commit that lacks one of them."""
    files = [f"{_PACKAGE}/{m.replace('.', '/')}{end}" for m in modules for end in ("/__init__.py", ".py")]
    asked = "".join(f"{commit}:{file}\n" for commit in commits for file in files)
    told = _git("cat-file", "--batch-check=%(objectname)", given=asked).decode().splitlines()
    for number, commit in enumerate(commits):
        ids = [line if " " not in line else None for line in told[len(files) * number :][: len(files)]]
        found = [package or module for package, module in zip(ids[::2], ids[1::2], strict=True)]
        present = tuple(one for one in found if one is not None)
        if len(present) == len(modules):
            yield commit, present


def with_lock(sha256: str) -> str | None:
    """The last commit whose `uv.lock` has this sha256; None if there is no history."""
    newest = "HEAD"
    for commit in _touching("uv.lock"):
        if hashlib.sha256(_git("show", f"{commit}:uv.lock")).hexdigest() == sha256:
            return _git("rev-parse", newest).decode().strip() or None
        newest = f"{commit}^"
    return None


def _touching(path: str) -> list[str]:
    """Commits that changed a path, the newest first; none outside a checkout of this repository."""
    root = bundled("uv.lock").parent
    if shutil.which("git") is None or _git("rev-parse", "--show-toplevel").decode().strip() != str(
        root.resolve()
    ):
        return []
    return _git("rev-list", f"--max-count={_MOST}", "HEAD", "--", path).decode().split()


def _git(*words: str, given: str = "") -> bytes:
    root = bundled("uv.lock").parent
    return subprocess.run(
        ["git", "-C", root, *words],
        input=given.encode(),
        capture_output=True,
        check=False,
        env=children.environment(),
    ).stdout
