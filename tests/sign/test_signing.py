"""`sign`: what it writes, what others' tools say of it, and what it refuses before anything is written."""

import json
from pathlib import Path

import pytest
from card.making import checkpoint as copied
from sign import making
from sign.making import verified

from proofcard import manifest
from proofcard.errors import Stop, Usage
from proofcard.sign.command import run
from proofcard.signatures import names


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    making.signed(folder)
    return folder


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    return making.copy(original, tmp_path / "place")


def test_model_signing_accepts_what_is_signed(place: Path) -> None:
    from model_signing.verifying import Config

    checkpoint = place / "checkpoint"
    theirs = Config().use_elliptic_key_verifier(public_key=place / "key.pem.pub")
    (checkpoint / ".proofcard").mkdir()
    for later in ("README.md", "README.html", ".proofcard/card.json"):
        (checkpoint / later).write_text("{}")
    theirs.verify(checkpoint, checkpoint / names.MODEL)
    (checkpoint / "added.py").touch()
    with pytest.raises(ValueError, match=r"Extra files found .*added\.py"):
        theirs.verify(checkpoint, checkpoint / names.MODEL)


def test_what_is_signed_is_what_is_sealed_and_the_manifest(place: Path) -> None:
    sealed = manifest.read(place / "checkpoint")
    statement = making.payload_of(place / "checkpoint" / names.MODEL)
    listed = {each["name"]: each["digest"] for each in statement["predicate"]["resources"]}
    assert listed.pop("manifest.json")
    assert listed == {name: entry.sha256 for name, entry in sealed.outputs.files.items()}
    for name in names.ATTESTATIONS:
        subjects = {
            each["name"]: each["digest"]["sha256"]
            for each in making.payload_of(place / "checkpoint" / name)["subject"]
        }
        assert {name: subjects[name] for name in listed} == listed


def test_the_provenance_names_everything_that_it_was_made_from(place: Path) -> None:
    sealed = manifest.read(place / "checkpoint")
    predicate = making.payload_of(place / "checkpoint" / names.PROVENANCE)["predicate"]
    found = [
        (each["name"], each.get("digest", {}).get("sha256"), each.get("annotations", {}).get("patches"))
        for each in predicate["buildDefinition"]["resolvedDependencies"]
    ]
    for name, entry in sealed.inputs["source"]["files"].items():
        assert (f"source/{name}", entry["sha256"], None) in found
    assert ("uv.lock", sealed.toolchain["lock"], None) in found
    patches = sealed.toolchain["patches"]
    for name, digests in patches["files"].items():
        for when in ("before", "after"):
            assert (f"nvidia-modelopt/{name}", digests[when], when) in found
    for patch in patches["patches"]:
        assert (f"patches/{patch['file']}", patch["sha256"], None) in found
    definition = predicate["buildDefinition"]
    assert definition["internalParameters"]["seeds"] == sealed.seeds
    assert definition["externalParameters"]["configuration"] == sealed.config
    assert predicate["runDetails"]["builder"]["id"] == "urn:proofcard:builder:self-hosted"


def test_the_bill_of_materials_is_valid_and_the_same_each_time(place: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (place / "checkpoint" / names.BOM).read_text()
    for version in (SchemaVersion.V1_6, SchemaVersion.V1_7):
        expected = text.replace("1.6", version.to_version())
        assert JsonStrictValidator(version).validate_str(expected) is None
    values = json.loads(text)
    kinds = {each["type"] for each in values["components"]}
    assert kinds == {"machine-learning-model", "data", "library", "file"}
    assert values["metadata"]["component"]["type"] == "machine-learning-model"
    assert values["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"] == [
        {"ref": "dataset:text"}
    ]
    modelopt = next(each for each in values["components"] if each["name"] == "nvidia-modelopt")
    assert modelopt["purl"] == "pkg:pypi/nvidia-modelopt@0.43.0"
    assert "0001-seeded-shuffle.patch: sha256" in modelopt["pedigree"]["notes"]
    making.sign(place, f"key={place / 'key.pem'}")
    assert (place / "checkpoint" / names.BOM).read_text() == text


def test_without_a_verification_there_is_no_summary_and_a_former_one_goes(place: Path) -> None:
    (place / "checkpoint.verification.json").unlink()
    made = making.sign(place, f"key={place / 'key.pem'}")
    assert made.verified == [] and "a verification summary" in made.missing[0]
    assert not (place / "checkpoint" / names.SUMMARY).exists()
    status, found = verified(place / "checkpoint", public_key=place / "key.pem.pub")
    assert status == 0 and "not there, so not checked: verification.sigstore.json" in found


def test_sigstore_without_a_network_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (place / "checkpoint" / names.MODEL).read_bytes()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    with pytest.raises(Usage, match="Sigstore cannot be reached: "):
        making.sign(place, "sigstore=true")
    assert (place / "checkpoint" / names.MODEL).read_bytes() == before


@pytest.mark.parametrize("result", ["differs", "not checked"])
def test_what_did_not_verify_is_not_signed(place: Path, result: str) -> None:
    report = place / "checkpoint.verification.json"
    report.write_text(report.read_text().replace('"result": "verified"', f'"result": "{result}"'))
    before = (place / "checkpoint" / names.MODEL).read_bytes()
    with pytest.raises(Stop, match=f"has the result '{result}': verify the checkpoint again"):
        making.sign(place, f"key={place / 'key.pem'}")
    assert (place / "checkpoint" / names.MODEL).read_bytes() == before


def test_nothing_is_signed_that_was_not_sealed(tmp_path: Path) -> None:
    checkpoint = copied(tmp_path)
    words = (f"key={tmp_path / 'key.pem'}", "create_key=true")
    (checkpoint / "added.py").touch()
    with pytest.raises(
        Stop, match=r"added\.py was not sealed and may not lie beside the sealed files: remove it"
    ):
        making.sign(tmp_path, *words)
    (checkpoint / "added.py").unlink()
    (checkpoint / "config.json").write_text("{}")
    with pytest.raises(Stop, match=r"config\.json is not as it was sealed, so nothing was signed"):
        making.sign(tmp_path, *words)
    (checkpoint / "config.json").unlink()
    with pytest.raises(Stop, match=r"config\.json is not as it was sealed"):
        making.sign(tmp_path, *words)
    assert not [name for name in names.ALL if (checkpoint / name).exists()]


def test_by_a_certificate(tmp_path: Path) -> None:
    issuer = making.Issuer(tmp_path)
    made = making.signed(tmp_path, *issuer.words("signer"))
    assert (made.signer.method, made.signer.subject) == ("certificate", "CN=signer")
    checkpoint = tmp_path / "checkpoint"
    from model_signing.verifying import Config

    theirs = Config().use_certificate_verifier(certificate_chain=[issuer.root])
    theirs.verify(checkpoint, checkpoint / names.MODEL)
    chain = {"certificate_chain": (issuer.root,)}
    status, found = verified(checkpoint, **chain)
    assert (status, found) == (0, "signed by certificate of CN=signer")
    (tmp_path / "elsewhere").mkdir()
    foreign = making.Issuer(tmp_path / "elsewhere")
    status, found = verified(checkpoint, certificate_chain=(foreign.root,))
    assert status == 1
    assert "the certificate of model.sig (CN=signer) does not lead to a certificate that you trust" in found
    keys = making.key_file(tmp_path / "other.pem")
    making.sign(tmp_path, f"key={keys}")
    assert "model.sig has no certificate: check it with public_key=FILE" in verified(checkpoint, **chain)[1]


@pytest.mark.parametrize(
    ("days", "signs", "sentence"),
    [
        ((-5, -1), True, r"the certificate of model.sig (CN=signer) expired on "),
        ((2, 5), True, r"the certificate of model.sig (CN=signer) is valid only from "),
        ((-1, 5), False, r"the certificate of model.sig (CN=signer) is not for signing: it has neither "),
    ],
)
def test_a_certificate_that_does_not_count(
    tmp_path: Path, days: tuple[int, int], signs: bool, sentence: str
) -> None:
    issuer = making.Issuer(tmp_path)
    making.signed(tmp_path, *issuer.words("signer", days, signs))
    status, found = verified(tmp_path / "checkpoint", certificate_chain=(issuer.root,))
    assert status == 1 and sentence in found


def test_an_issuer_that_has_expired(tmp_path: Path) -> None:
    issuer = making.Issuer(tmp_path, root_days=(-9, -2))
    making.signed(tmp_path, *issuer.words("signer"))
    found = verified(tmp_path / "checkpoint", certificate_chain=(issuer.root,))[1]
    assert "does not lead to a certificate that you trust: CN=root expired on " in found


def test_a_certificate_of_another_key(tmp_path: Path) -> None:
    copied(tmp_path)
    issuer = making.Issuer(tmp_path)
    _, *certificate = issuer.words("signer")
    with pytest.raises(Usage, match="is not of key="):
        making.sign(tmp_path, f"key={making.key_file(tmp_path / 'other.pem')}", *certificate)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "say who signs with exactly one of key=FILE, pkcs11=URI and sigstore=true"),
        (("key=a", "sigstore=true"), "say who signs with exactly one of"),
        (("sigstore=true", "certificate=a"), "certificate is only allowed with key or pkcs11"),
        (("key=a", "certificate_chain=[b]"), "certificate_chain is only allowed with certificate"),
        (("sigstore=true", "create_key=true"), "create_key and password_file are only allowed with key"),
        (("key=a", "builder=me"), "builder='me': it must be"),
    ],
)
def test_who_signs_must_be_said(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    copied(tmp_path)
    with pytest.raises(Usage, match=sentence.replace("[", r"\[")):
        making.sign(tmp_path, *words)


def test_the_command_leaves_a_report_and_prints_what_a_stranger_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["checkpoint=checkpoint", "key=keys/mine.pem", "create_key=true", "tracking=off"]) == 0
    out = capfd.readouterr().out
    assert "proofcard verify checkpoint=checkpoint public_key=keys/mine.pem.pub" in out
    document = json.loads((tmp_path / "checkpoint.signing.json").read_text())
    assert (document["schema"], document["files_signed"]) == ("proofcard/signing/1", 11)
    assert {each["name"] for each in document["written"]} == {*names.ALL} - {names.SUMMARY}
    with pytest.raises(Usage, match="would lie inside the checkpoint"):
        run(["checkpoint=checkpoint", "key=keys/mine.pem", "report=checkpoint/x.json", "tracking=off"])
