"""Reads `patches/<package>-<version>/series.yaml`: the series, their patches, what each does."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proofcard.bundle import bundled
from proofcard.errors import Stop
from proofcard.toolchain import diff

_SHA256 = r"^[0-9a-f]{64}$"


class ToolchainError(Stop):
    """The patched package cannot be provided as declared; the message says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Change(_Part):
    """One file before and after a patch."""

    path: str
    before: str = Field(pattern=_SHA256)
    after: str = Field(pattern=_SHA256)


class Patch(_Part):
    """One patch for one concern; `bytes` is its effect on a checkpoint's bytes."""

    file: str = Field(pattern=r"^\d{4}-[a-z0-9-]+\.patch$")
    title: str
    why: str
    upstream: str
    bytes: str
    files: tuple[Change, ...] = Field(min_length=1)


class Series(_Part):
    """A named list of patches, after those of the series that it extends."""

    title: str
    extends: str | None = None
    patches: tuple[Patch, ...]


class PatchSet(_Part):
    """One `series.yaml`. `tree` is the digest of the released wheel's files, see `tree_digest`."""

    package: str
    version: str
    imports: str
    tree: str = Field(pattern=_SHA256)
    series: dict[str, Series]

    def chain(self, name: str) -> tuple[Patch, ...]:
        """The patches of a series in order, inherited ones first.

        Raises:
            ToolchainError: when the series does not exist.
        """
        if name not in self.series:
            known = ", ".join(sorted([*self.series, "none"]))
            raise ToolchainError(f"{self.package} has no patch series {name!r}; choose one of: {known}")
        selected = self.series[name]
        inherited = self.chain(selected.extends) if selected.extends else ()
        return inherited + selected.patches


def load(package: str, version: str, patches: Path | None = None) -> tuple[PatchSet, Path]:
    """The patch set for an installed version, and its folder.

    Raises:
        ToolchainError: when there is none for that version, or its `series.yaml` is wrong.
    """
    root = bundled("patches") if patches is None else patches
    folder = root / f"{package}-{version}"
    path = folder / "series.yaml"
    if not path.is_file():
        known = sorted(p.name.removeprefix(f"{package}-") for p in root.glob(f"{package}-*"))
        raise ToolchainError(
            f"{package} {version} is installed, but patches exist for {', '.join(known) or 'no version'}: "
            f"install {package}=={known[-1] if known else '…'}, the version of uv.lock"
        )
    try:
        found = PatchSet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ToolchainError(f"{path.name} of {folder.name} cannot be read: {error}") from None
    if (found.package, found.version) != (package, version):
        raise ToolchainError(f"{folder.name}/series.yaml is for {found.package} {found.version}")
    return found, folder


def patch_texts(chain: Iterable[Patch], folder: Path) -> list[tuple[Patch, str]]:
    """Every patch with its text.

    Raises:
        ToolchainError: when a patch file is missing.
    """
    try:
        return [(patch, (folder / patch.file).read_text(encoding="utf-8")) for patch in chain]
    except FileNotFoundError as error:
        raise ToolchainError(f"series.yaml lists {error.filename}, which does not exist") from None


def apply_all(chain: list[tuple[Patch, str]], upstream: dict[str, str]) -> dict[str, str]:
    """The patched files' texts. Digests are checked before and after every patch.

    Raises:
        ToolchainError: naming the patch that does not do what the series declares.
    """
    texts = dict(upstream)
    for patch, text in chain:
        try:
            hunks = diff.parse(text)
            if set(hunks) != {change.path for change in patch.files}:
                raise diff.DiffError(
                    f"it changes {', '.join(sorted(hunks))}, which is not what series.yaml lists"
                )
            for change in patch.files:
                _expect(change.before, texts[change.path], f"{change.path} before it")
                texts[change.path] = diff.apply(hunks[change.path], texts[change.path])
                _expect(change.after, texts[change.path], f"{change.path} after it")
        except diff.DiffError as error:
            raise ToolchainError(
                f"{patch.file} does not apply: {error}; series.yaml does not match the patches"
            ) from None
    return {path: texts[path] for path in sorted(texts)}


def sha256_text(text: str) -> str:
    """Hex sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def tree_digest(files: dict[str, str]) -> str:
    """sha256 over the lines `<sha256>  <path>` of `{path: sha256}`, sorted by path."""
    return sha256_text("".join(f"{files[path]}  {path}\n" for path in sorted(files)))


def _expect(digest: str, text: str, what: str) -> None:
    found = sha256_text(text)
    if found != digest:
        raise diff.DiffError(f"{what} has sha256 {found[:16]}…, but series.yaml has {digest[:16]}…")
