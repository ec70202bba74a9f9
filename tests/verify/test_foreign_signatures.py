"""Level `signature` on what others signed: model-signing now, its earlier versions, a Sigstore identity."""

from pathlib import Path
from typing import Any

import pytest
from running import ROOT
from sign import making
from sign.making import change, verified

VECTORS = ROOT / "tests" / "signatures" / "vectors"
"""Signatures that model-signing keeps as tests; ORIGIN.md there."""


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "1.1.0"])
def test_model_signing_s_own_signatures_with_a_certificate(tmp_path: Path, version: str) -> None:
    theirs = making.copy(VECTORS / f"v{version}-certificate", tmp_path / "theirs")
    (theirs / "ignore-me").unlink(missing_ok=True)  # not signed, and nothing that may lie beside a checkpoint
    assert verified(theirs, certificate_chain=(VECTORS / "ca-cert.pem",))[0] == 0
    (theirs / "signme-1").write_text("other")
    assert verified(theirs, certificate_chain=(VECTORS / "ca-cert.pem",))[0] == 1


def test_model_signing_s_own_signatures_with_a_key(tmp_path: Path) -> None:
    public = VECTORS / "signing-key-pub.pem"
    theirs = making.copy(VECTORS / "v1.1.0-elliptic-key", tmp_path / "theirs")
    status, found = verified(theirs, public_key=public)
    assert status == 1 and "extra ignore-me: it was not signed" in found
    (theirs / "ignore-me").unlink()
    assert verified(theirs, public_key=public)[0] == 0
    single = making.copy(VECTORS / "v0.3.1-elliptic-key", tmp_path / "single")
    assert "it is the signature of a single file" in verified(single, public_key=public)[1]


def test_a_signature_by_an_identity(tmp_path: Path) -> None:
    theirs = making.copy(VECTORS / "v1.1.0-sigstore", tmp_path / "theirs")
    (theirs / "ignore-me").unlink()
    provider = {"identity_provider": "https://sigstore.verify.ibm.com/oauth2"}
    assert verified(theirs, signed_by="stefanb@us.ibm.com", **provider)[0] == 0
    status, found = verified(theirs, signed_by="somebody@else.example", **provider)
    assert status == 1 and "model.sig is not signed by somebody@else.example: " in found


@pytest.mark.parametrize("method", ["file", "shard"])
@pytest.mark.parametrize("algorithm", ["sha256", "blake2"])
def test_what_model_signing_signs_now(tmp_path: Path, method: str, algorithm: Any) -> None:
    from model_signing import hashing
    from model_signing.signing import Config

    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/weights: 1:2").write_bytes(b"0123456789" * 30)
    (folder / "empty").touch()
    private = making.key_file(tmp_path / "key.pem")
    hashed = hashing.Config()
    if method == "file":
        hashed.use_file_serialization(hashing_algorithm=algorithm)
    else:
        hashed.use_shard_serialization(hashing_algorithm=algorithm, shard_size=70)
    made = Config().use_elliptic_key_signer(private_key=private).set_hashing_config(hashed)
    made.sign(folder, folder / "model.sig")
    from proofcard.sign.keys import private as read
    from proofcard.signatures.trust import PublicKey
    from proofcard.verify.integrity import Seal
    from proofcard.verify.signature import check

    trust = PublicKey(read(private, None, folder).public_key(), "the key")
    assert check(folder, Seal(folder), trust, None, 2).result == "holds"
    change(folder / "inner/weights: 1:2")
    level = check(folder, Seal(folder), trust, None, 2)
    assert [each.kind for each in level.findings] == ["mismatched"]
    where = " in bytes 280 to 299" if method == "shard" else ""
    assert level.findings[0].message == f"it is not what was signed{where}"
    with (folder / "inner/weights: 1:2").open("ab") as file:
        file.write(b"more")
    assert check(folder, Seal(folder), trust, None, 2).result == "differs"


def test_another_tool_s_name_of_the_right_key_does_not_matter(tmp_path: Path) -> None:
    making.signed(tmp_path)
    key, place = tmp_path / "key.pem", tmp_path / "checkpoint"
    hint = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # Base64 of the key's digest, as cosign has it
    making.resigned(place / "model.sig", key, making.payload_of(place / "model.sig"), hint=hint)
    assert verified(place, public_key=tmp_path / "key.pem.pub")[0] == 0
