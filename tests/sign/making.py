"""Keys, certificates and a small signed checkpoint."""

import base64
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

from card.making import checkpoint
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from proofcard.config import compose
from proofcard.config.schema import VerifyConfig
from proofcard.config.signing import SignConfig
from proofcard.documents.signing import Signing
from proofcard.documents.verification import Verification
from proofcard.sign import signing
from proofcard.signatures.bundle import IN_TOTO, MEDIA_TYPE, pre_authentication_encoding
from proofcard.verify import run

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def signed(folder: Path, *words: str) -> Signing:
    """A verified and signed copy of the golden checkpoint; by `folder/key.pem` if no words are given."""
    made = checkpoint(folder)
    config = {"checkpoint": made, "source": None, "levels": ("integrity", "structure"), "report": None}
    assert run(VerifyConfig.model_validate(config), quiet()) == 0
    return sign(folder, *(words or (f"key={folder / 'key.pem'}", "create_key=true")))


def sign(folder: Path, *words: str) -> Signing:
    place = [f"checkpoint={folder / 'checkpoint'}", f"work_dir={folder / 'runs'}", "tracking=off"]
    return signing.sign(compose(SignConfig, "sign", [*place, *words]))


def quiet() -> Any:
    import io

    from rich.console import Console

    return Console(file=io.StringIO(), width=200)


def copy(folder: Path, to: Path) -> Path:
    """Another copy of a folder made by `signed`."""
    return Path(shutil.copytree(folder, to))


def key_file(path: Path, key: Any = None, curve: ec.EllipticCurve | None = None) -> Path:
    """A private key in PEM, unencrypted, for its owner alone."""
    key = key or ec.generate_private_key(curve or ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


class Issuer:
    """A root certificate, an intermediate one, and certificates for keys that it issues."""

    def __init__(self, folder: Path, root_days: tuple[int, int] = (-3, 30)) -> None:
        self.folder = folder
        self._root_key, self._between_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._root = certificate("root", self._root_key, "root", self._root_key, root_days, is_ca=True)
        self._between = certificate(
            "between", self._between_key, "root", self._root_key, (-3, 30), is_ca=True
        )
        self.root = written(folder / "root.pem", self._root)
        self.between = written(folder / "between.pem", self._between)

    def words(self, name: str, days: tuple[int, int] = (-1, 10), signs: bool = True) -> list[str]:
        """What `sign` is given for a new key with a certificate."""
        key = ec.generate_private_key(ec.SECP384R1())
        path = key_file(self.folder / f"{name}.pem", key)
        made = certificate(name, key, "between", self._between_key, days, signs=signs)
        crt = written(self.folder / f"{name}.crt", made)
        return [f"key={path}", f"certificate={crt}", f"certificate_chain=[{self.between}]"]


def certificate(
    name: str,
    key: Any,
    issuer: str,
    issuer_key: Any,
    days: tuple[int, int],
    is_ca: bool = False,
    signs: bool = True,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=is_ca, crl_sign=is_ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def written(path: Path, made: x509.Certificate) -> Path:
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


def payload_of(path: Path) -> Any:
    """The statement in a bundle."""
    return json.loads(base64.b64decode(json.loads(path.read_text())["dsseEnvelope"]["payload"]))


def resigned(path: Path, key: Path, statement: Any, payload_type: str = IN_TOTO, hint: str = "") -> None:
    """Replace a bundle by one over another statement, signed with a key of P-256."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(key.read_bytes(), None)
    payload = json.dumps(statement).encode() if not isinstance(statement, bytes) else statement
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signature = private.sign(pre_authentication_encoding(payload_type, payload), ec.ECDSA(hashes.SHA256()))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    values = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": envelope,
    }
    path.write_text(json.dumps(values))


def verified(checkpoint: Path, **asked: Any) -> tuple[int, str]:
    """Exit status, and what was found in the level, all in one line."""
    report = checkpoint.parent / "outcome.json"
    values = {"checkpoint": checkpoint, "source": None, "levels": ("signature",), "report": report}
    status = run(VerifyConfig.model_validate(values | asked), quiet())
    level = Verification.model_validate_json(report.read_text()).levels["signature"]
    found = [f"{each.kind} {each.file}: {each.message}" for each in level.differences.listed]
    return status, " | ".join([*found, *level.unchecked.listed, *level.notes])


def change(path: Path) -> None:
    """Flip the last bit of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
