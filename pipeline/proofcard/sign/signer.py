"""Who signs: model-signing with a key, a certificate, a token's key or an identity, behind one function."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofcard.config.signing import SignConfig
from proofcard.documents.signing import Signer as SignerDocument
from proofcard.errors import Stop, Usage, one_line
from proofcard.files import plain
from proofcard.sign import keys
from proofcard.signatures import trust


@dataclass(frozen=True)
class Statement:
    """What model-signing's signers ask of a payload: an attribute with an in-toto statement."""

    statement: Any


class Signer:
    """Signs statements, and a folder's files, with whatever the configuration names."""

    def __init__(self, config: SignConfig) -> None:
        """Open the key.

        Raises:
            Usage: when the key or certificate cannot be used, or model-signing cannot be imported.
        """
        from model_signing import signing

        self._config = signing.Config()
        self.document = self._open(config)

    def _open(self, config: SignConfig) -> SignerDocument:
        """Tell model-signing who signs."""
        if config.sigstore:
            with _explained("Sigstore cannot be reached"):
                self._config.use_sigstore_signer(use_ambient_credentials=True)
            return SignerDocument(method="sigstore", public_key=None, subject=None, not_after=None)
        if config.pkcs11 is not None:
            return self._open_token(config, config.pkcs11)
        assert config.key is not None
        secret = keys.password(config.password_file)
        private = keys.private(config.key, secret, config.checkpoint)
        named = trust.fingerprint(private.public_key())
        if config.certificate is None:
            self._config.use_elliptic_key_signer(
                private_key=config.key,
                password=secret if _is_encrypted(config.key) else None,  # type: ignore[arg-type]  # bytes
            )
            return SignerDocument(method="key", public_key=named, subject=None, not_after=None)
        if _is_encrypted(config.key):
            raise Usage(
                f"key={plain(config.key)} is encrypted, and model-signing reads the key of a certificate "
                "without a password: decrypt it for the time of signing (openssl pkey)"
            )
        certificate = _certificate(config.certificate)
        if certificate.public_key() != private.public_key():
            raise Usage(f"certificate={plain(config.certificate)} is not of key={plain(config.key)}")
        self._config.use_certificate_signer(
            private_key=config.key,
            signing_certificate=config.certificate,
            certificate_chain=_chain(config),
        )
        return _certified("certificate", certificate, named)

    def _open_token(self, config: SignConfig, uri: str) -> SignerDocument:
        if "pin-value" in uri:
            raise Usage(
                "pkcs11: a PIN on the command line is seen by others: put it into a file, pin-source=FILE"
            )
        try:
            if config.certificate is None:
                self._config.use_pkcs11_signer(pkcs11_uri=uri)
                return SignerDocument(method="pkcs11", public_key=None, subject=None, not_after=None)
            certificate = _certificate(config.certificate)
            self._config.use_pkcs11_certificate_signer(
                pkcs11_uri=uri, signing_certificate=config.certificate, certificate_chain=_chain(config)
            )
            return _certified("pkcs11", certificate, None)
        except RuntimeError as error:
            raise Usage(f"pkcs11: {one_line(error)}") from None
        except Usage:
            raise
        except Exception as error:  # PyKCS11's and others
            raise Usage(f"pkcs11: the key cannot be used: {one_line(error)}") from None

    def sign_files(self, folder: Path, ignored: Iterable[str], target: Path) -> None:
        """Hash every file of a folder but the ignored ones, and write their signature to `target`.

        Raises:
            Stop: when a file cannot be read, or the signer does not answer.
        """
        from model_signing import hashing

        hashed = hashing.Config().set_ignored_paths(paths=list(ignored), ignore_git_paths=False)
        with _explained(f"{plain(folder)} cannot be signed"):
            self._config.set_hashing_config(hashed).sign(folder, target)

    def sign_statement(
        self,
        subjects: Iterable[tuple[str, str]],
        predicate_type: str,
        predicate: dict[str, Any],
        target: Path,
    ) -> None:
        """Write a signed in-toto statement to `target`; subjects are names with the sha256 of their bytes.

        Raises:
            Stop: when the signer does not answer.
        """
        from in_toto_attestation.v1 import resource_descriptor, statement

        made = statement.Statement(
            [resource_descriptor.ResourceDescriptor(name=n, digest={"sha256": d}).pb for n, d in subjects],
            predicate_type,
            predicate,
        )
        with _explained(f"{target.name} cannot be signed"):
            self._config._signer.sign(Statement(made)).write(target)  # the same signer as for the files


def _certificate(path: Path) -> Any:
    return trust.certificates(path, "certificate")[0]


def _chain(config: SignConfig) -> list[Path]:
    for path in config.certificate_chain:
        trust.certificates(path, "certificate_chain")
    return list(config.certificate_chain)


def _certified(method: Any, certificate: Any, public_key: str | None) -> SignerDocument:
    return SignerDocument(
        method=method,
        public_key=public_key,
        subject=certificate.subject.rfc4514_string(),
        not_after=f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    )


def _is_encrypted(key: Path) -> bool:
    return b"ENCRYPTED" in key.read_bytes()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """A context in which whatever a signer's libraries raise becomes a Stop with these first words."""
    try:
        yield
    except Stop:
        raise
    except Exception as error:  # each library has its own family of exceptions
        raise Stop(f"{what}: {one_line(error)[:500]}") from None
