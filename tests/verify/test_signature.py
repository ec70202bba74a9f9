"""Level `signature`: what was signed holds; each way in which it does not has a sentence of its own."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sign import making
from sign.making import change, verified

from proofcard.errors import Usage


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    making.signed(folder)
    making.key_file(folder / "other.pem")
    return folder


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    return making.copy(original, tmp_path / "place")


def key(place: Path) -> dict[str, Any]:
    return {"public_key": place / "key.pem.pub"}


def test_what_was_signed_holds_with_the_card_written_later(place: Path) -> None:
    for name in ("README.md", "README.html", ".proofcard/card.json", ".eval_results/a.yaml"):
        (place / "checkpoint" / name).parent.mkdir(exist_ok=True)
        (place / "checkpoint" / name).write_text("{}")
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 0
    assert found.startswith("signed by key ") and "not there" not in found
    assert verified(place / "checkpoint", levels=None, **key(place))[0] == 0


def test_a_changed_byte_a_missing_file_and_an_added_one_are_named(place: Path) -> None:
    checkpoint = place / "checkpoint"
    change(checkpoint / "model.safetensors")
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "modeling_x.py").write_text("import os")
    status, found = verified(checkpoint, **key(place))
    assert status == 1
    assert "mismatched model.safetensors: it is not what was signed" in found
    assert "missing tokenizer.json: it was signed and is not there" in found
    assert "extra modeling_x.py: it was not signed, and may not lie beside what was" in found


def test_a_removed_signature(place: Path) -> None:
    (place / "checkpoint/model.sig").unlink()
    status, found = verified(place / "checkpoint", **key(place))
    assert (status, found) == (1, "missing model.sig: it is not signed, or its signature was removed")


def test_another_key(place: Path) -> None:
    other = making.copy(place, place / "other")
    making.sign(other, f"key={place / 'other.pem'}")
    status, found = verified(other / "checkpoint", **key(place))
    assert status == 1
    assert "model.sig is signed with another key: it names " in found
    values = json.loads((other / "checkpoint/model.sig").read_text())
    values["verificationMaterial"]["publicKey"]["hint"] = json.loads(
        (place / "checkpoint/model.sig").read_text()
    )["verificationMaterial"]["publicKey"]["hint"]  # somebody else's name on it
    (other / "checkpoint/model.sig").write_text(json.dumps(values))
    status, found = verified(other / "checkpoint", **key(place))
    assert status == 1
    assert (
        "the signature in model.sig does not fit: its content was altered, or another key signed it" in found
    )


def test_an_altered_list_of_files(place: Path) -> None:
    path = place / "checkpoint/model.sig"
    values = json.loads(path.read_text())
    statement = making.payload_of(path)
    statement["predicate"]["resources"].pop()
    values["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(values))
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and "the signature in model.sig does not fit" in found


def test_the_signature_of_another_checkpoint(place: Path) -> None:
    checkpoint = place / "checkpoint"
    statement = making.payload_of(checkpoint / "model.sig")
    for each in statement["predicate"]["resources"]:
        if each["name"] == "manifest.json":
            each["digest"] = "ab" * 32
    from proofcard.signatures.statement import root_digest

    digests = [each["digest"] for each in statement["predicate"]["resources"]]
    statement["subject"][0]["digest"]["sha256"] = root_digest(digests)
    making.resigned(checkpoint / "model.sig", place / "key.pem", statement)
    status, found = verified(checkpoint, **key(place))
    assert status == 1
    assert (
        "model.sig: it is the signature of another checkpoint: the manifest.json that it signs is not"
        in found
    )


SPOILT = {
    "its list of files does not hash to its subject": lambda s: s["predicate"]["resources"].pop(),
    "is a statement of kind 'https://slsa.dev/provenance/v1', not the signature of a model": lambda s: (
        s.update(predicateType="https://slsa.dev/provenance/v1")
    ),
    "does not state anything in the form of https://in-toto.io/Statement/v1": lambda s: s.update(_type="x"),
    "twice": lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
    "mixes digests of several algorithms": lambda s: s["predicate"]["resources"][0].update(algorithm="md5"),
    "that is not hexadecimal": lambda s: s["predicate"]["resources"][0].update(digest="xyz"),
    "a subject without a name or a sha256": lambda s: s["subject"][0].update(digest={"md5": "00"}),
    "the files were hashed by the method 'tensors', which is not known": lambda s: s["predicate"][
        "serialization"
    ].update(method="tensors"),
    "has no list of resources": lambda s: s["predicate"].pop("resources"),
}


@pytest.mark.parametrize("sentence", SPOILT)
def test_what_the_right_key_signed_must_make_sense(place: Path, sentence: str) -> None:
    path = place / "checkpoint/model.sig"
    statement = making.payload_of(path)
    SPOILT[sentence](statement)
    making.resigned(path, place / "key.pem", statement)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and sentence in found


@pytest.mark.parametrize(
    ("payload_type", "payload", "sentence"),
    [
        ("text/plain", b"{}", "signs a payload of type 'text/plain', not an in-toto statement"),
        ("application/vnd.in-toto+json", b"{", "the statement in model.sig is not JSON"),
    ],
)
def test_another_payload(place: Path, payload_type: str, payload: bytes, sentence: str) -> None:
    making.resigned(place / "checkpoint/model.sig", place / "key.pem", payload, payload_type)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and sentence in found


def test_a_sealed_file_that_was_not_signed(place: Path) -> None:
    path = place / "checkpoint/model.sig"
    statement = making.payload_of(path)
    kept = [each for each in statement["predicate"]["resources"] if each["name"] != "config.json"]
    statement["predicate"]["resources"] = kept
    from proofcard.signatures.statement import root_digest

    statement["subject"][0]["digest"]["sha256"] = root_digest(each["digest"] for each in kept)
    making.resigned(path, place / "key.pem", statement)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and "extra config.json: it is sealed, but was not signed" in found


STATEMENTS = {
    "provenance.sigstore.json": "its buildDefinition.internalParameters.seeds.torch is not what manifest",
    "verification.sigstore.json": "its result is FAILED, not PASSED",
    "bom.sigstore.json": "bom.cdx.json was altered: its metadata.component.name is not what was signed",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_signed_statement_that_contradicts_the_checkpoint(place: Path, name: str) -> None:
    path = place / "checkpoint" / name
    statement = making.payload_of(path)
    predicate = statement["predicate"]
    if name.startswith("prov"):
        predicate["buildDefinition"]["internalParameters"]["seeds"]["torch"] = 7
    elif name.startswith("ver"):
        predicate["verificationResult"] = "FAILED"
    else:
        predicate["metadata"]["component"]["name"] = "another"
    making.resigned(path, place / "key.pem", statement)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and f"{name}: {STATEMENTS[name]}" in found


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_about_other_files_or_by_another_key(place: Path, name: str) -> None:
    path = place / "checkpoint" / name
    statement = making.payload_of(path)
    statement["subject"][0]["digest"]["sha256"] = "cd" * 32
    making.resigned(path, place / "key.pem", statement)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and f"{name}: it is about other files than model.sig: " in found
    making.resigned(path, place / "other.pem", statement)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and f"{name}: the signature in {name} does not fit" in found


def test_statements_in_each_other_s_place(place: Path) -> None:
    checkpoint = place / "checkpoint"
    (checkpoint / "verification.sigstore.json").write_bytes(
        (checkpoint / "provenance.sigstore.json").read_bytes()
    )
    (checkpoint / "provenance.sigstore.json").unlink()
    status, found = verified(checkpoint, **key(place))
    assert status == 1
    assert "it is a statement of kind 'https://slsa.dev/provenance/v1', not https://slsa.dev/verif" in found
    assert "not there, so not checked: provenance.sigstore.json" in found


def test_a_claimed_level_that_was_not_proved(place: Path) -> None:
    path = place / "checkpoint/verification.sigstore.json"
    statement = making.payload_of(path)
    assert statement["predicate"]["verifiedLevels"] == ["PROOFCARD_INTEGRITY", "PROOFCARD_STRUCTURE"]
    statement["predicate"]["verifiedLevels"].append("PROOFCARD_WEIGHTS")
    making.resigned(path, place / "key.pem", statement)
    assert "the levels that it claims are not those" in verified(place / "checkpoint", **key(place))[1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "model.sig is not JSON"),
        ("[]", "model.sig is not a signature bundle: the bundle is not an object"),
        ("{}", "model.sig is not a signature bundle: the bundle has no text mediaType"),
        (
            '{"mediaType": "text/html"}',
            "model.sig has the media type 'text/html', not that of a Sigstore bundle",
        ),
        (
            '{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}',
            "model.sig signs the bytes of one file (messageSignature), not a statement about a checkpoint",
        ),
    ],
)
def test_what_is_not_a_bundle(place: Path, content: str, sentence: str) -> None:
    (place / "checkpoint/model.sig").write_text(content)
    status, found = verified(place / "checkpoint", **key(place))
    assert status == 1 and sentence in found


@pytest.mark.parametrize("count", [0, 2])
def test_a_bundle_has_one_signature(place: Path, count: int) -> None:
    path = place / "checkpoint/model.sig"
    values = json.loads(path.read_text())
    values["dsseEnvelope"]["signatures"] *= count
    path.write_text(json.dumps(values))
    assert f"model.sig has {count} signatures" in verified(place / "checkpoint", **key(place))[1]


def test_whose_signature_must_be_said(place: Path) -> None:
    with pytest.raises(
        Usage, match=r"needs public_key=FILE or certificate_chain=\[FILE\]: who should have signed"
    ):
        verified(place / "checkpoint")
    with pytest.raises(Usage, match="give one of public_key=FILE"):
        verified(place / "checkpoint", signed_by="a@b.c", identity_provider="https://d", **key(place))
    with pytest.raises(Usage, match="needs both signed_by"):
        verified(place / "checkpoint", signed_by="a@b.c")
    with pytest.raises(Usage, match="does not exist"):
        verified(place / "checkpoint", public_key=place / "no.pem")
    with pytest.raises(Usage, match="is a private key: keep it to yourself"):
        verified(place / "checkpoint", public_key=place / "key.pem")
    with pytest.raises(Usage, match="is not a public key in PEM form"):
        verified(place / "checkpoint", public_key=place / "checkpoint/config.json")
    with pytest.raises(Usage, match="has no certificate in PEM form"):
        verified(place / "checkpoint", certificate_chain=(place / "key.pem.pub",))
