"""The installed package on disk, located and read without importing it."""

import base64
import csv
import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from proofcard.digest import sha256_file
from proofcard.toolchain.series import Patch, PatchSet, ToolchainError, tree_digest

MARKER = "toolchain.json"
_OF_THE_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


@dataclass(frozen=True)
class Installed:
    """A distribution: its location, and the sha256 of each file from its wheel.

    `files` are the package's own, `info` those in its dist-info folder that do not depend on the installer.
    """

    package: str
    version: str
    site: Path
    files: dict[str, str]
    info: dict[str, str]
    recorded: dict[str, str]

    def text(self, path: str) -> str:
        """A file's text with its original line endings."""
        return (self.site / path).read_bytes().decode("utf-8")

    def reinstall(self) -> str:
        """What to do about a modified installation."""
        return f"reinstall it: uv sync --reinstall-package {self.package}"


def find(package: str, site: Path | None = None) -> Installed:
    """The installed package, ignoring materialised copies of it on the import path.

    Raises:
        ToolchainError: when it is not installed from a wheel.
    """
    path = [entry for entry in sys.path if not (Path(entry) / MARKER).exists()]
    where = path if site is None else [str(site)]
    found = next(iter(importlib.metadata.distributions(name=package, path=where)), None)
    if found is None:
        raise ToolchainError(f"{package} is not installed: uv sync --extra quantize")
    record = found.read_text("RECORD")
    if record is None:
        raise ToolchainError(
            f"{package} is not installed from a wheel (no RECORD): install the released wheel"
        )
    home = Path(str(found.locate_file(""))).resolve()
    files: dict[str, str] = {}
    info: dict[str, str] = {}
    recorded: dict[str, str] = {}
    for name, digest, *_ in csv.reader(record.splitlines()):
        first, *rest = name.split("/")
        if first == ".." or "__pycache__" in rest or (rest and rest[0] in _OF_THE_INSTALLER):
            continue
        target = home / name
        kind = info if first.endswith(".dist-info") else files
        kind[name] = sha256_file(target) if target.is_file() else "missing"
        recorded[name] = _hex(digest)
    return Installed(package, found.version, home, files, info, recorded)


def check_pristine(installed: Installed, declared: PatchSet, chain: tuple[Patch, ...]) -> None:
    """Check that the installed package does not differ from the released wheel.

    Raises:
        ToolchainError: naming the first file that does, starting with those that the series patches.
    """
    first_seen: dict[str, str] = {}
    for patch in chain:
        for change in patch.files:
            first_seen.setdefault(change.path, change.before)
    expected = first_seen | {name: sha for name, sha in installed.recorded.items() if name not in first_seen}
    for name, wanted in expected.items():
        present = installed.files | installed.info
        found = present.get(name, "missing")
        if found != wanted:
            raise ToolchainError(
                f"the installed {name} differs from the one in {installed.package} {installed.version}: "
                f"expected sha256 {wanted}, found {found}; {installed.reinstall()}"
            )
    if tree_digest(installed.files) != declared.tree:
        raise ToolchainError(
            f"the installed {installed.package} {installed.version} has other files than the released wheel; "
            + installed.reinstall()
        )


def _hex(recorded: str) -> str:
    """`sha256=<urlsafe base64 without padding>`, as RECORD writes it, in hex."""
    encoded = recorded.removeprefix("sha256=")
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
