"""A Sigstore bundle with a DSSE envelope, as model-signing and cosign write it, read as untrusted input.

Bundle: github.com/sigstore/protobuf-specs, sigstore_bundle.proto. Envelope and PAE:
github.com/secure-systems-lab/dsse, envelope.md and protocol.md.
"""

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard import json_files
from proofcard.errors import Stop
from proofcard.files import plain, read_bytes

IN_TOTO = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MEDIA_TYPES = (
    MEDIA_TYPE,
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
)
_LARGEST = 64 << 20  # bytes of a bundle; 100,000 signed files take 20 MB
_MOST_CERTIFICATES = 16


class Malformed(Stop):
    """A file that is not a signature bundle, or not one of these."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's parts. Nothing in it is to be believed before `trust` has checked the signature.

    `hint` names a public key by the sha256 of its PEM form; `certificates` are in DER, the signer's first.
    `content` is the whole file.
    """

    name: str
    payload_type: str
    payload: bytes
    signature: bytes
    hint: str | None
    certificates: tuple[bytes, ...]
    content: bytes

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the signature is over: DSSE's pre-authentication encoding of the payload."""
        return pre_authentication_encoding(self.payload_type, self.payload)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE of DSSE v1 (protocol.md, "Signature definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read(path: Path, root: Path | None) -> Bundle:
    """The bundle in a file; `root` is the folder that it must be in.

    Raises:
        FileNotFoundError: when the file does not exist.
        Malformed: when it is not a bundle with one signature over a DSSE envelope.
        Stop: as `files.opened`, and for a file that is too large.
    """
    return parsed(read_bytes(path, root, _LARGEST), path.name)


def parsed(content: bytes, name: str) -> Bundle:
    """The bundle that a file's bytes are; `name` is what messages call the file. Raises Malformed."""
    try:
        values = json_files.parse(content, name, unique=True)
    except json_files.JsonError as error:
        raise Malformed(f"{error}: it is not a signature bundle") from None
    whole = _Object(name, "the bundle", values)
    media_type = whole.text("mediaType")
    if media_type not in _MEDIA_TYPES:
        raise Malformed(f"{name} has the media type {plain(media_type)!r}, not that of a Sigstore bundle")
    if "messageSignature" in whole.values:
        raise Malformed(
            f"{name} signs the bytes of one file (messageSignature), not a statement about a checkpoint"
        )
    envelope = whole.inner("dsseEnvelope")
    signatures = envelope.items("signatures")
    if len(signatures) != 1:
        raise Malformed(f"{name} has {len(signatures)} signatures; a bundle has exactly one")
    hint, certificates = _material(whole.inner("verificationMaterial"))
    return Bundle(
        name,
        envelope.text("payloadType"),
        envelope.bytes("payload"),
        signatures[0].bytes("sig"),
        hint,
        certificates,
        content,
    )


def _material(material: "_Object") -> tuple[str | None, tuple[bytes, ...]]:
    """The hint of a public key, or the certificates."""
    if "publicKey" in material.values:
        hint = material.inner("publicKey").values.get("hint")
        return (hint if isinstance(hint, str) and hint else None), ()
    if "certificate" in material.values:
        return None, (material.inner("certificate").bytes("rawBytes"),)
    chain = material.inner("x509CertificateChain").items("certificates")
    if not 0 < len(chain) <= _MOST_CERTIFICATES:
        raise Malformed(f"{material.name} has a chain of {len(chain)} certificates")
    return None, tuple(each.bytes("rawBytes") for each in chain)


class _Object:
    """A JSON object whose fields are asked for with their types."""

    def __init__(self, name: str, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise Malformed(f"{name} is not a signature bundle: {where} is not an object")
        self.name, self._where, self.values = name, where, values

    def _missing(self, key: str, kind: str) -> Malformed:
        return Malformed(f"{self.name} is not a signature bundle: {self._where} has no {kind} {key}")

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self._missing(key, "text")
        return value

    def bytes(self, key: str) -> bytes:
        try:
            return base64.b64decode(self.text(key), validate=True)
        except (binascii.Error, ValueError):
            raise self._missing(key, "Base64") from None

    def inner(self, key: str) -> "_Object":
        if key not in self.values:
            raise self._missing(key, "object")
        return _Object(self.name, key, self.values[key])

    def items(self, key: str) -> list["_Object"]:
        value = self.values.get(key)
        if not isinstance(value, list):
            raise self._missing(key, "list")
        return [_Object(self.name, key, each) for each in value]
