"""A publication: what is in which repository of the hub, at which commit, as it was read back from there."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Sha256
from proofcard.documents.verification import LevelResult


class PublishedFile(Document):
    """A file in the repository. `sealed`: the manifest has its digest; the others lie beside the seal.

    `stored`: lfs, where the hub names the sha256, or git, where the content was read back.
    """

    size: NonNegativeInt
    sha256: Sha256
    sealed: bool
    stored: Literal["lfs", "git"]


class Published(Document):
    """The checkpoint `key` at a commit; every file was held to its digest after the upload.

    `levels` are those of `verify` that were held against it before. `verify` is the command of a stranger.
    """

    schema_: Literal["proofcard/published/1"] = Field(default="proofcard/published/1", alias="schema")
    key: Sha256
    recipe: str | None
    repository: str
    commit: str
    tag: str
    private: bool
    manifest_sha256: Sha256
    levels: dict[str, LevelResult]
    files: dict[str, PublishedFile]
    tensors: NonNegativeInt
    verify: str
