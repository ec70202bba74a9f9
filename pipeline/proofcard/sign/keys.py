"""Private keys: made, read from files of untrusted form, and refused in a sentence."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from proofcard.disk import check_writable, force_to_disk, write_whole
from proofcard.errors import Usage
from proofcard.files import is_inside, plain, read_bytes
from proofcard.signatures.trust import CURVES, kind_of

PASSWORD = "PROOFCARD_KEY_PASSWORD"
"""The environment variable with a key's password."""

_LARGEST = 1 << 20  # bytes of a key or password file


def password(file: Path | None) -> bytes | None:
    """The password of a key: the first line of a file, or else what the environment gives.

    Raises:
        Usage: when the file is missing, empty or readable by others.
    """
    if file is None:
        given = os.environ.get(PASSWORD)
        return given.encode() if given else None
    _check_private(file, "password")
    content = read_bytes(file, None, _LARGEST).split(b"\n", 1)[0].rstrip(b"\r")
    if not content:
        raise Usage(f"{plain(file)} is empty: its first line should be the key's password")
    return content


def public_path(key: Path) -> Path:
    """Where `create` writes the public half of a key."""
    return key.with_name(f"{key.name}.pub")


def create(key: Path, secret: bytes | None) -> None:
    """Make a P-256 key that its owner alone may read, encrypted if there is a password, and FILE.pub.

    Raises:
        Stop: when its folder cannot be written.
        OSError: when writing fails; a key is there whole or not at all.
    """
    check_writable(key.absolute().parent)
    key.absolute().parent.mkdir(parents=True, exist_ok=True)
    made = ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(secret) if secret is not None else NoEncryption()
    content = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    fresh = key.with_name(f".{key.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        force_to_disk(fresh)
        os.link(fresh, key)  # never over a key that another process has made
    finally:
        fresh.unlink(missing_ok=True)
    public = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_whole(public_path(key), public.decode())


def private(key: Path, secret: bytes | None, checkpoint: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file.

    Raises:
        Usage: when there is none, others may read it, it lies in the checkpoint, the password is missing or
            wrong, or it is not an elliptic-curve key that model-signing takes.
    """
    if not key.exists():
        raise Usage(f"key={plain(key)} does not exist: create_key=true makes it")
    if is_inside(key, checkpoint):
        raise Usage(
            f"key={plain(key)} lies inside the checkpoint and would be published with it: move it out"
        )
    _check_private(key, "private key")
    content = read_bytes(key, None, _LARGEST)
    if b"-----BEGIN PUBLIC KEY-----" in content:
        raise Usage(f"key={plain(key)} is a public key: signing needs the private one")
    try:
        loaded = load_pem_private_key(content, secret if b"ENCRYPTED" in content else None)
    except TypeError:  # encrypted, and no password
        raise Usage(
            f"key={plain(key)} is encrypted: give its password in {PASSWORD} or with password_file=FILE"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if b"ENCRYPTED" in content and secret is not None:
            raise Usage(f"the password does not open key={plain(key)}") from None
        raise Usage(f"key={plain(key)} is not a private key in PEM form (PKCS#8 or SEC 1)") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name not in CURVES:
        raise Usage(
            f"key={plain(key)} is {kind_of(loaded.public_key())}: model-signing takes elliptic-curve keys on "
            f"{', '.join(CURVES.values())}"
        )
    return loaded


def _check_private(file: Path, what: str) -> None:
    """Raise Usage when a secret's file is missing or may be read by others."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise Usage(f"the {what} file {plain(file)} cannot be read: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise Usage(
            f"the {what} file {plain(file)} may be read by others (mode {stat.S_IMODE(mode):04o}): "
            f"chmod 600 {plain(file)}"
        )
