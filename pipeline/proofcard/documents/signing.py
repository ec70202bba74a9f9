"""What `sign` has signed, field by field."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from proofcard.documents.base import Document, Sha256


class SignedFile(Document):
    """A file that was written: its sha256, and the predicate type of the statement in it, if it has one."""

    name: str
    sha256: Sha256
    statement: str | None


class Signer(Document):
    """Who signed. `public_key` is the sha256 of the public key's PEM form, as signatures name it."""

    method: Literal["key", "certificate", "sigstore", "pkcs11"]
    public_key: Sha256 | None
    subject: str | None
    not_after: str | None


class Signing(Document):
    """The signatures of one checkpoint. `verified` are the levels of `verify` that its summary carries.

    `missing` says what was left out and why; `model` is model-signing's digest over all signed files.
    """

    schema_: Literal["proofcard/signing/1"] = Field(default="proofcard/signing/1", alias="schema")
    key: Sha256
    recipe: str | None
    signer: Signer
    model: Sha256
    files_signed: NonNegativeInt
    bytes_signed: NonNegativeInt
    written: list[SignedFile]
    verified: list[str]
    missing: list[str]
