"""Whose signatures count: a public key, or whoever holds a certificate from a trusted issuer."""

import datetime
import hashlib
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from proofcard.errors import Stop, Usage
from proofcard.files import plain, read_bytes
from proofcard.signatures.bundle import Bundle

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_LARGEST = 16 << 20  # bytes of a file of keys or certificates


class Untrusted(Stop):
    """A signature that is not by whom it should be, or not over what it is on."""


class Trust(Protocol):
    """Whoever may have signed."""

    def check(self, bundle: Bundle) -> None:
        """Check a bundle's signature. Raises Untrusted."""

    def named(self) -> str:
        """A few words for notes."""


class PublicKey:
    """One elliptic-curve key."""

    def __init__(self, key: ec.EllipticCurvePublicKey, name: str) -> None:
        self._key, self._name = key, name
        self.fingerprint = fingerprint(key)

    def check(self, bundle: Bundle) -> None:
        """Check that this key has signed the bundle.

        Raises:
            Untrusted: for another key, a certificate's signature, and one that does not fit its content.
        """
        if bundle.certificates:
            raise Untrusted(
                f"{bundle.name} is signed with a certificate, not a bare key: check it with "
                "certificate_chain=[FILE]"
            )
        if _fits(self._key, bundle):
            return  # whatever name the bundle gives the key: cosign's differs from model-signing's
        if bundle.hint is not None and bundle.hint != self.fingerprint:
            raise Untrusted(
                f"{bundle.name} is signed with another key: it names {plain(bundle.hint)[:16]}…, "
                f"{self._name} is {self.fingerprint[:16]}…"
            )
        raise Untrusted(
            f"the signature in {bundle.name} does not fit: its content was altered, or another key signed it"
        )

    def named(self) -> str:
        """The fingerprint."""
        return f"key {self.fingerprint[:16]}…"


class Issuers:
    """Whoever holds a certificate for signing that leads to one of these."""

    def __init__(self, roots: list[x509.Certificate], now: datetime.datetime | None = None) -> None:
        self._roots, self._now = roots, now
        self._subject = ""

    def check(self, bundle: Bundle) -> None:
        """Check a bundle that a certificate's key has signed.

        The certificate must be valid now: the bundle of a key has no time that a third party vouches for.

        Raises:
            Untrusted: without a certificate, for one that has expired, is not yet valid, is not for signing
                or leads to none of the issuers, and for a signature that does not fit its content.
        """
        if not bundle.certificates:
            raise Untrusted(f"{bundle.name} has no certificate: check it with public_key=FILE")
        try:
            signer, *between = [x509.load_der_x509_certificate(each) for each in bundle.certificates]
            key, subject, may_sign = signer.public_key(), signer.subject.rfc4514_string(), _may_sign(signer)
        except _UNREADABLE as error:
            raise Untrusted(f"{bundle.name} has a certificate that cannot be read: {plain(error)}") from None
        now = self._now or datetime.datetime.now(datetime.UTC)
        if now > signer.not_valid_after_utc:
            raise Untrusted(
                f"the certificate of {bundle.name} ({plain(subject)}) expired on "
                f"{signer.not_valid_after_utc:%Y-%m-%d}: sign again with a valid one"
            )
        if now < signer.not_valid_before_utc:
            raise Untrusted(
                f"the certificate of {bundle.name} ({plain(subject)}) is valid only from "
                f"{signer.not_valid_before_utc:%Y-%m-%d}"
            )
        if not may_sign:
            raise Untrusted(
                f"the certificate of {bundle.name} ({plain(subject)}) is not for signing: it has neither the "
                "key usage digitalSignature nor the extended key usage codeSigning"
            )
        self._lead(bundle.name, signer, between, now)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not _fits(key, bundle):
            raise Untrusted(f"the signature in {bundle.name} does not fit its certificate or its content")
        self._subject = subject

    def _lead(
        self, name: str, signer: x509.Certificate, between: list[x509.Certificate], now: datetime.datetime
    ) -> None:
        """Raise Untrusted unless a chain leads from the certificate to an issuer."""
        anything = verification.ExtensionPolicy.permit_all()
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(self._roots))
            .time(now)
            .extension_policies(ca_policy=_CA, ee_policy=anything)
            .build_client_verifier()
        )
        try:
            verifier.verify(signer, between)
        except (verification.VerificationError, *_UNREADABLE) as error:
            late = [each for each in (*between, *self._roots) if now > each.not_valid_after_utc]
            if late:
                issuer, end = late[0].subject.rfc4514_string(), late[0].not_valid_after_utc
                why = f"{plain(issuer)} expired on {end:%Y-%m-%d}"
            else:
                why = plain(error)
            raise Untrusted(
                f"the certificate of {name} ({plain(signer.subject.rfc4514_string())}) does not lead to a "
                f"certificate that you trust: {why}"
            ) from None

    def named(self) -> str:
        """The subject of the last certificate."""
        return f"certificate of {plain(self._subject)}"


_CA = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
)
"""An issuer's certificate says that it is one."""


def public_key(path: Path) -> PublicKey:
    """The public key in a PEM file.

    Raises:
        Usage: when the file is missing, holds something else, or a key that model-signing does not take.
    """
    content = _content(path, "public_key")
    if b"PRIVATE KEY-----" in content:
        raise Usage(
            f"public_key={plain(path)} is a private key: keep it to yourself, and give the public one"
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise Usage(f"public_key={plain(path)} is not a public key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise Usage(
            f"public_key={plain(path)} is {kind_of(key)}: model-signing takes elliptic-curve keys on "
            f"{', '.join(CURVES.values())}"
        )
    return PublicKey(key, plain(path.name))


def issuers(paths: tuple[Path, ...]) -> Issuers:
    """The certificates in PEM files, as those that may issue a signer's.

    Raises:
        Usage: when a file is missing or holds something else.
    """
    return Issuers([each for path in paths for each in certificates(path, "certificate_chain")])


def certificates(path: Path, option: str) -> list[x509.Certificate]:
    """The certificates in a PEM file. Raises Usage as `issuers`."""
    try:
        return x509.load_pem_x509_certificates(_content(path, option))
    except ValueError:
        raise Usage(f"{option}={plain(path)} has no certificate in PEM form") from None


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Hex sha256 of a public key's PEM form, as model-signing names it in `hint`."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def kind_of(key: Any) -> str:
    """A few words on a key: `an RSA key`, `a key on secp256k1`."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"a key on {key.curve.name}"
    name = type(key).__name__.removesuffix("PublicKey").lstrip("_")
    return f"an {name} key" if name[:1] in "AEIOR" else f"a {name} key"


def _content(path: Path, option: str) -> bytes:
    try:
        return read_bytes(path, None, _LARGEST)
    except FileNotFoundError:
        raise Usage(f"{option}={plain(path)} does not exist") from None
    except Stop as stop:
        raise Usage(str(stop)) from None


def _fits(key: ec.EllipticCurvePublicKey, bundle: Bundle) -> bool:
    """Whether a bundle's signature is this key's.

    Model-signing before 1.0 signed the payload's Python representation by mistake, and with a certificate
    always with SHA-256; its own verifier accepts that too.
    """
    algorithm = _HASHES.get(key.curve.name)
    if algorithm is None:
        return False
    kind, size = bundle.payload_type, len(bundle.payload)
    before_1_0 = f"DSSEV1 {len(kind)} {kind} {size} {bundle.payload!r}".encode()
    old = hashes.SHA256() if bundle.certificates else algorithm
    return _is_by(key, bundle, bundle.signed_bytes, algorithm) or _is_by(key, bundle, before_1_0, old)


def _is_by(
    key: ec.EllipticCurvePublicKey, bundle: Bundle, signed: bytes, algorithm: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(bundle.signature, signed, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _may_sign(certificate: x509.Certificate) -> bool:
    """Key usage digitalSignature, or extended key usage codeSigning, as model-signing asks for."""
    try:
        if certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CODE_SIGNING in usages
