"""What `sign` may be asked."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from proofcard.config.schema import Part, Tracking


class Signer(Part):
    """Who signs. `create_key` makes `key`, unless it exists. `password_file` has its password on line 1."""

    key: Path | None
    create_key: bool
    password_file: Path | None
    certificate: Path | None
    certificate_chain: tuple[Path, ...]
    sigstore: bool
    pkcs11: str | None
    builder: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")


class SignConfig(Signer):
    """The whole of `sign`'s configuration. Exactly one of `key`, `sigstore` and `pkcs11` says who signs."""

    checkpoint: Path
    tracking: Tracking
    work_dir: Path
    report: Path | None

    @model_validator(mode="after")
    def _one_signer(self) -> Self:
        given = [self.key is not None, self.sigstore, self.pkcs11 is not None]
        if sum(given) != 1:
            raise ValueError(
                "say who signs with exactly one of key=FILE, pkcs11=URI and sigstore=true "
                "(key=FILE create_key=true makes a key)"
            )
        if self.certificate is not None and self.sigstore:
            raise ValueError("certificate is only allowed with key or pkcs11: Sigstore issues its own")
        if self.certificate_chain and self.certificate is None:
            raise ValueError("certificate_chain is only allowed with certificate")
        if self.key is None and (self.create_key or self.password_file is not None):
            raise ValueError("create_key and password_file are only allowed with key")
        return self
