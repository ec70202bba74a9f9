"""A series as a folder: a copy of the installed package with the patches applied, named by its digest.

Whatever exists under the final name is complete: it is built next to it, forced to disk, sealed with
`toolchain.json` and renamed, all under a lock that is released with its process.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proofcard.digest import all_files, readable_json, sha256_file, sha256_json
from proofcard.disk import force_to_disk
from proofcard.errors import explained
from proofcard.locks import alone
from proofcard.toolchain import installed as installation
from proofcard.toolchain.installed import MARKER, Installed
from proofcard.toolchain.series import (
    ToolchainError,
    apply_all,
    load,
    patch_texts,
    sha256_text,
    tree_digest,
)

DEFAULT_ROOT = Path(".toolchain")
NONE = "none"
_PACKAGE = "nvidia-modelopt"
_SCHEMA = 1


@dataclass(frozen=True)
class PatchedFile:
    """A file of the package, relative to it, with its sha256 before and after the series."""

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Toolchain:
    """A package with a patch series. `path`, the location of its files, is not part of the identity.

    `content` has the sha256 of each file by its name in `path`. Nothing is imported from there, see
    `activate`.
    """

    package: str
    version: str
    series: str
    digest: str
    files: tuple[PatchedFile, ...]
    patches: tuple[tuple[str, str], ...]
    imports: str
    path: Path = field(compare=False)
    content: dict[str, str] = field(compare=False, repr=False)

    def describe(self) -> dict[str, Any]:
        """Its entry in a manifest: JSON values, without paths or times."""
        return {
            "package": self.package,
            "version": self.version,
            "series": self.series,
            "digest": self.digest,
            "patches": [{"file": name, "sha256": digest} for name, digest in self.patches],
            "files": {f.path: {"before": f.before, "after": f.after} for f in self.files},
        }


@dataclass(frozen=True)
class Blueprint:
    """A series applied in memory: the toolchain, and the texts of the files that it changes."""

    toolchain: Toolchain
    installed: Installed
    texts: dict[str, str]


def materialise(
    series: str, root: Path | None = None, *, site: Path | None = None, patches: Path | None = None
) -> Toolchain:
    """The toolchain of a series, creating its folder in `root` if it does not exist yet.

    `root` defaults to `.toolchain/` in the working directory; an existing folder may be
    read-only, and an image has its own in the folder PROOFCARD_TOOLCHAINS. Series `none`
    is the installed package itself. `site` and `patches` override where the package is installed and the
    series are declared.

    Raises:
        ToolchainError: when the installed package is not the released one, a patch does not apply, or
            the folder differs from what was sealed.
    """
    try:
        plan = blueprint(series, root, site=site, patches=patches)
        if series != NONE and state(plan) == "absent":
            final = plan.toolchain.path
            final.parent.mkdir(parents=True, exist_ok=True)
            with alone(final.parent / ".lock", f"making {final.name}", waits=True):
                if state(plan) == "absent":  # another process may have created it while this one waited
                    _build(plan)
    except OSError as error:
        raise ToolchainError(explained(error)) from None
    return plan.toolchain


def blueprint(
    series: str, root: Path | None = None, *, site: Path | None = None, patches: Path | None = None
) -> Blueprint:
    """Everything about a series that can be determined without writing.

    Raises:
        ToolchainError: when the installed package is not the released one or a patch does not apply.
    """
    installed = installation.find(_PACKAGE, site)
    declared, folder = load(installed.package, installed.version, patches)
    chain = declared.chain(series) if series != NONE else ()
    installation.check_pristine(installed, declared, chain)
    sources = patch_texts(chain, folder)
    touched = sorted({change.path for patch in chain for change in patch.files})
    texts = apply_all(sources, {path: installed.text(path) for path in touched})
    after = {path: sha256_text(text) for path, text in texts.items()}
    patched = tuple((patch.file, sha256_text(text)) for patch, text in sources)
    identity = {
        "package": installed.package,
        "version": installed.version,
        "upstream": tree_digest(installed.files),
        "patches": [digest for _, digest in patched],
    }
    digest = sha256_json(identity)
    name = f"{installed.package}-{installed.version}-{series}-{digest[:16]}"
    content = installed.files | installed.info | after
    toolchain = Toolchain(
        package=installed.package,
        version=installed.version,
        series=series,
        digest=digest,
        files=tuple(PatchedFile(path, installed.files[path], after[path]) for path in touched),
        patches=patched,
        imports=declared.imports,
        path=installed.site if series == NONE else _place(name, root or DEFAULT_ROOT),
        content=content,
    )
    return Blueprint(toolchain, installed, texts)


def _place(name: str, root: Path) -> Path:
    """The folder of a series: in PROOFCARD_TOOLCHAINS if it exists there, otherwise in `root`."""
    ready = Path(os.environ.get("PROOFCARD_TOOLCHAINS") or root).resolve() / name
    return ready if ready.is_dir() else root.resolve() / name


def state(plan: Blueprint) -> str:
    """`present` or `absent`, by reading every file of the folder.

    Raises:
        ToolchainError: when the folder differs from what was sealed.
    """
    folder = plan.toolchain.path
    if not folder.exists():
        return "absent"
    marker = folder / MARKER
    if marker.is_symlink() or not marker.is_file():
        raise broken(plan.toolchain, f"it has no {MARKER}, so it is incomplete")
    present, expected = _digests(folder, plan.toolchain.content), plan.toolchain.content
    for path, _ in sorted(present.items() ^ expected.items()):
        change = "was changed" if path in expected else "was added"
        change = change if path in present else "is missing"
        raise broken(plan.toolchain, f"{path} {change}")
    if marker.read_text(encoding="utf-8") != _seal(plan):
        raise broken(plan.toolchain, f"{MARKER} does not describe this folder")
    return "present"


def _build(plan: Blueprint) -> None:
    final = plan.toolchain.path
    for leftover in final.parent.glob(".*.partial"):  # we hold the lock, so its owner is gone
        shutil.rmtree(leftover)
    partial = final.parent / f".{final.name}.partial"
    try:
        for name in plan.toolchain.content:
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in plan.texts:
                target.write_bytes(plan.texts[name].encode())
            else:
                shutil.copyfile(plan.installed.site / name, target)
        if _digests(partial, plan.toolchain.content) != plan.toolchain.content:
            raise ToolchainError(f"{plan.installed.site} changed while it was being copied: run again")
        (partial / MARKER).write_text(_seal(plan), encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            force_to_disk(path)
        partial.rename(final)
        force_to_disk(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _seal(plan: Blueprint) -> str:
    tree = tree_digest(plan.toolchain.content)
    return readable_json({"schema": _SCHEMA, "tree": tree} | plan.toolchain.describe())


def _digests(folder: Path, expected: dict[str, str]) -> dict[str, str]:
    """Digest of every regular file in the folder, and a placeholder for anything else.

    Skips the marker, and byte code, which nothing reads (earlier versions imported from here).
    """
    named = {path.relative_to(folder): path for path in all_files(folder)}
    return {
        relative.as_posix(): _digest(path) if relative.as_posix() in expected else "unexpected"
        for relative, path in named.items()
        if relative.as_posix() != MARKER and "__pycache__" not in relative.parts
    }


def _digest(path: Path) -> str:
    return "not a regular file" if path.is_symlink() or not path.is_file() else sha256_file(path)


def broken(toolchain: Toolchain, reason: str) -> ToolchainError:
    """The error for a folder that has changed, with what to do about it."""
    if toolchain.series == NONE:
        return ToolchainError(
            f"the installed {toolchain.package} changed in the meantime: {reason}; "
            f"reinstall it: uv sync --reinstall-package {toolchain.package}"
        )
    return ToolchainError(
        f"the toolchain {toolchain.path} is broken: {reason}; delete that folder and run again"
    )
