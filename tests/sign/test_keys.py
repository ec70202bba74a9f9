"""Private keys: made for their owner alone; every other kind of file is refused in a sentence."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from sign import making

from proofcard.errors import Usage
from proofcard.sign import keys
from proofcard.signatures.trust import fingerprint, public_key

SECRET = b"correct horse"


def test_a_made_key_is_its_owner_s_and_its_public_half_everybody_s(tmp_path: Path) -> None:
    key = tmp_path / "new" / "key.pem"
    keys.create(key, None)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    private = keys.private(key, None, tmp_path / "checkpoint")
    assert public_key(keys.public_path(key)).fingerprint == fingerprint(private.public_key())
    assert sorted(path.name for path in key.parent.iterdir()) == ["key.pem", "key.pem.pub"]
    with pytest.raises(FileExistsError):
        keys.create(key, None)  # never over another


def test_a_key_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, checkpoint = tmp_path / "key.pem", tmp_path / "checkpoint"
    keys.create(key, SECRET)
    assert b"ENCRYPTED" in key.read_bytes()
    with pytest.raises(Usage, match="is encrypted: give its password in PROOFCARD_KEY_PASSWORD"):
        keys.private(key, None, checkpoint)
    with pytest.raises(Usage, match="the password does not open key="):
        keys.private(key, b"wrong", checkpoint)
    monkeypatch.setenv(keys.PASSWORD, SECRET.decode())
    keys.private(key, keys.password(None), checkpoint)
    file = tmp_path / "password"
    file.write_bytes(SECRET + b"\r\nmore")
    with pytest.raises(Usage, match=r"may be read by others \(mode 0644\): chmod 600"):
        keys.password(file)
    file.chmod(0o600)
    keys.private(key, keys.password(file), checkpoint)
    file.write_bytes(b"\n")
    with pytest.raises(Usage, match="is empty"):
        keys.password(file)
    with pytest.raises(Usage, match="cannot be read: No such file"):
        keys.password(tmp_path / "nowhere")


def test_what_is_not_a_private_key_for_signing(tmp_path: Path) -> None:
    checkpoint, path = tmp_path / "checkpoint", tmp_path / "key.pem"
    checkpoint.mkdir()

    def refused(sentence: str) -> None:
        with pytest.raises(Usage, match=sentence):
            keys.private(path, None, checkpoint)

    refused("does not exist: create_key=true makes it")
    making.key_file(path).chmod(0o640)
    refused(r"may be read by others \(mode 0640\): chmod 600")
    path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    refused("is not a private key in PEM form")
    keys.create(tmp_path / "other.pem", None)
    path.write_bytes((tmp_path / "other.pem.pub").read_bytes())
    refused("is a public key: signing needs the private one")
    making.key_file(path, rsa.generate_private_key(65537, 1024))
    refused("is an RSA key: model-signing takes elliptic-curve keys on P-256, P-384, P-521")
    making.key_file(path, ed25519.Ed25519PrivateKey.generate())
    refused("is an Ed25519 key")
    making.key_file(path, curve=ec.SECP256K1())
    refused("is a key on secp256k1")
    path = making.key_file(checkpoint / "key.pem")
    refused("lies inside the checkpoint and would be published with it")


def test_a_sec_1_key_is_taken_too(tmp_path: Path) -> None:
    path, key = tmp_path / "key.pem", ec.generate_private_key(ec.SECP521R1())
    from cryptography.hazmat.primitives.serialization import NoEncryption

    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    path.chmod(0o600)
    assert keys.private(path, None, tmp_path / "checkpoint").curve.name == "secp521r1"
