"""What is not proved, and what would tell others about this machine, is never published."""

import base64
import json
import socket
from pathlib import Path

import pytest
from hub import Hub
from publish.making import OFF
from publish.test_command import NAME, publish

from proofcard.errors import Stop, Usage
from proofcard.publish import leaks
from proofcard.publish.content import Outgoing


def refused(hub: Hub, sentence: str, *words: str) -> None:
    with pytest.raises(Usage, match=sentence):
        publish(*words)
    assert hub.requests == []
    assert ("model", NAME) not in hub.repositories


def test_a_changed_byte_is_refused(place: Path, hub: Hub) -> None:
    path = place / "checkpoint/model.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    refused(hub, r"checkpoint does not verify, so it is not published: integrity differs: \S+: ")


def test_a_file_that_is_not_sealed_is_refused(place: Path, hub: Hub) -> None:
    (place / "checkpoint/more.bin").write_bytes(b"x")
    refused(hub, r"does not verify, so it is not published: integrity differs: more\.bin")


def test_weights_that_nobody_proved_are_refused(place: Path, hub: Hub) -> None:
    (place / "checkpoint.verification.json").unlink()
    (place / "checkpoint/.proofcard/verification.json").unlink()
    assert card(place) == 0
    refused(hub, "nothing shows that the weights of checkpoint follow from their source: give source=DIR")
    assert publish("source=source") == 0


def test_a_verification_of_another_manifest_proves_nothing(place: Path, hub: Hub) -> None:
    path = place / "checkpoint.verification.json"
    values = json.loads(path.read_text())
    values["manifest"]["sha256"] = "0" * 64
    path.write_text(json.dumps(values))
    assert card(place) == 0
    refused(hub, "nothing shows that the weights")


def test_weights_of_another_source_are_refused(place: Path, hub: Hub) -> None:
    path = place / "source/model.safetensors"
    body = bytearray(path.read_bytes())
    body[-40] ^= 64
    path.write_bytes(body)
    refused(hub, "does not verify, so it is not published: weights differs", "source=source")


def test_without_a_card_it_is_refused(place: Path, hub: Hub) -> None:
    (place / "checkpoint/README.md").unlink()
    refused(hub, "checkpoint has no card: write one with proofcard card checkpoint=checkpoint")


def test_a_changed_digit_of_the_card_is_refused(place: Path, hub: Hub) -> None:
    path = place / "checkpoint/README.md"
    path.write_text(path.read_text().replace("36 tensors", "35 tensors"))
    refused(hub, r"the card disagrees with its documents: README\.md, line \d+")


def card(place: Path) -> int:
    from proofcard.card.command import run

    return run(["checkpoint=checkpoint", "license=apache-2.0", *OFF])


@pytest.mark.parametrize("what", ["folder", "home", "host"])
def test_a_document_with_a_place_of_this_machine_is_refused(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(socket, "gethostname", lambda: "build-17.example")
    text = {"folder": str(place), "home": "/home/somebody/x", "host": "on build-17."}[what]
    said = {"folder": "the working folder", "home": "your home", "host": "this host's name"}[what]
    (place / "checkpoint/notes.intoto.json").write_text(json.dumps({"a": "b", "made": text}))
    refused(hub, rf"notes\.intoto\.json, line 1, contains {said}")


def test_statements_in_base64_are_read_too(place: Path) -> None:
    payload = base64.b64encode(f'{{"builder": "a machine", "in": "{place}/runs"}}'.encode() + b" " * 40)
    content = json.dumps({"payload": payload.decode()}).encode()
    file = Outgoing("x.sigstore.json", len(content), "0" * 64, False, place / "x", content)
    with pytest.raises(Stop, match="the working folder"):
        leaks.check([file], place / "elsewhere", Path("runs"))


@pytest.mark.parametrize("text", ["/placeholder", "~/place", "a/place-2", "localhost"])
def test_names_that_only_look_alike_pass(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/place"))
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    content = text.replace("/place", "/home/place").encode() if text != "~/place" else text.encode()
    content = content.replace(b"/home/place-2", b"/home/place-2")
    file = Outgoing("x.json", len(content), "0" * 64, False, Path("x"), content)
    leaks.check([file], Path("/data/x"), Path("/data/runs"))


def test_a_signature_of_another_key_is_refused_and_the_right_one_is_a_level(place: Path, hub: Hub) -> None:
    from proofcard.sign.command import run as sign

    for name in ("ours", "other"):
        words = [f"key=keys/{name}.pem", "create_key=true", f"report={name}.json"]
        assert sign(["checkpoint=checkpoint", *OFF, *words]) == 0
    refused(
        hub, r"does not verify, so it is not published: signature differs", "public_key=keys/ours.pem.pub"
    )
    assert publish("public_key=keys/other.pem.pub") == 0
    levels = json.loads((place / "checkpoint.published.json").read_text())["levels"]
    assert levels["signature"] == "holds"
