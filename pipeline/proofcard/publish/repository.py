"""The repository on the hub: what is there, may this checkpoint go there, and what it is afterwards."""

import hashlib
import re
from dataclasses import dataclass

from proofcard import manifest as manifests
from proofcard.beside_seal import may_lie_beside
from proofcard.checkpoint.repository import HubFile, Repository
from proofcard.documents.manifest import Manifest
from proofcard.documents.published import PublishedFile
from proofcard.errors import Stop, Usage
from proofcard.files import plain
from proofcard.publish.content import Outgoing
from proofcard.publish.refusals import patiently

_TIMEOUT = 30  # seconds
_OURS = (".gitattributes",)  # the hub makes it
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Existing:
    """A repository's main: its commit and files, and every tag with its commit."""

    commit: str
    private: bool
    files: dict[str, HubFile]
    tags: dict[str, str]


def look(name: str) -> Existing | None:
    """What is there; None where there is no such repository, or none that this token may see.

    Raises:
        Stop: when the hub cannot be asked, or the repository has another name now.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi()

    def asked() -> Existing | None:
        try:
            info = api.model_info(name, files_metadata=True, timeout=_TIMEOUT)
        except RepositoryNotFoundError:
            return None
        if info.id != name:
            raise Stop(f"{name} has moved to {plain(info.id)}: give that name, or take another one")
        files = {
            file.rfilename: HubFile(file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id or "")
            for file in info.siblings or []
        }
        tags = {each.name: each.target_commit for each in api.list_repo_refs(name).tags}
        return Existing(info.sha or "", bool(info.private), files, tags)

    return patiently(name, asked)


def check_free(
    name: str, existing: Existing, sealed: Manifest, files: list[Outgoing], private: bool
) -> list[str]:
    """Whether the checkpoint may go there. Returns files of a former card of it that will be deleted.

    Raises:
        Usage: when something else is there, or it is not private where it should be.
    """
    if existing.private != private:
        now, wish = ("private", "private=false") if existing.private else ("public", "private=true")
        raise Usage(
            f"{name} is {now} and {wish} was asked for: change it in its settings on the hub, or give "
            f"private={str(existing.private).lower()}"
        )
    others = [tag for tag in existing.tags if _KEY.fullmatch(tag) and tag != sealed.key]
    if others:
        raise Usage(
            f"{name} has the tag of another checkpoint, {others[0][:12]}: publish this one, "
            f"{sealed.key[:12]}, in a repository of its own"
        )
    there = existing.files.keys() - set(_OURS)
    if there and manifests.NAME not in there:
        raise Usage(
            f"{name} has other content already ({plain(min(there))}): choose a repository of its own, "
            "or empty that one first"
        )
    if there and (key := _key(name, existing)) != sealed.key:
        raise Usage(
            f"{name} holds another checkpoint, {key[:12]}: publish this one, {sealed.key[:12]}, in a "
            "repository of its own"
        )
    left = sorted(there - {file.name for file in files})
    foreign = [file for file in left if not may_lie_beside(file)]
    if foreign:
        raise Usage(
            f"{name} has {plain(foreign[0])}, which is not part of this checkpoint: delete it there, or "
            "choose another repository"
        )
    return left


def _key(name: str, existing: Existing) -> str:
    """The key of the checkpoint whose manifest is there."""
    place = Repository(name, existing.commit, "repository", address=True)
    content = _content(place, manifests.NAME, existing.files[manifests.NAME].size)
    return manifests.parsed(content, f"{name}: {manifests.NAME}").key


def read_back(name: str, commit: str, sealed: Manifest, files: list[Outgoing]) -> dict[str, PublishedFile]:
    """Hold what the hub has at a commit to what was sent: sizes, digests, headers of tensors.

    Raises:
        Stop: naming the first file that is missing, another one, or not ours.
    """
    place = Repository(name, commit, "repository", address=True)
    there = place.listing()
    wrong = f"{name} at {commit[:12]} is not what was sent"
    if foreign := sorted(there.keys() - {file.name for file in files} - set(_OURS)):
        raise Stop(f"{wrong}: it also has {plain(foreign[0])}; it was not tagged")
    found = {}
    for file in files:
        entry = there.get(file.name)
        if entry is None:
            raise Stop(f"{wrong}: {file.name} is missing; it was not tagged")
        digest = entry.sha256 or hashlib.sha256(_content(place, file.name, entry.size)).hexdigest()
        if (entry.size, digest) != (file.size, file.sha256):
            raise Stop(
                f"{wrong}: {file.name} has {entry.size:,} bytes with sha256 {digest}, not {file.size:,} with "
                f"{file.sha256}; it was not tagged"
            )
        found[file.name] = PublishedFile(
            size=file.size, sha256=digest, sealed=file.sealed, stored="lfs" if entry.sha256 else "git"
        )
    _check_headers(place, sealed, wrong)
    return found


def _check_headers(place: Repository, sealed: Manifest, wrong: str) -> None:
    """The header of every weight file names the sealed tensors with their dtypes and shapes."""
    by_file: dict[str, dict[str, tuple[str, list[int]]]] = {}
    for name, tensor in sealed.outputs.tensors.items():
        by_file.setdefault(tensor.file, {})[name] = (tensor.dtype, tensor.shape)
    for file, expected in by_file.items():
        header = place.header(file)
        found = {name: (each["dtype"], list(each["shape"])) for name, each in header.items()}
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                raise Stop(f"{wrong}: tensor {plain(name)} in the header of {file}; it was not tagged")


def _content(place: Repository, file: str, size: int) -> bytes:
    return place.span(file, 0, size - 1) if size else b""
