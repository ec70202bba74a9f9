"""What `publish` finds on the hub and refuses, and how it asks."""

import json
from pathlib import Path

import pytest
from hub import Hub
from publish.making import NAME, OFF, files, publish

from proofcard import manifest
from proofcard.errors import Usage
from proofcard.publish.command import run

SHARD = "model.safetensors"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, r"org/demo-NVFP4 has other content already \(notes\.txt\)"),
        ({"manifest.json": b"{}"}, r"org/demo-NVFP4: manifest\.json is not a manifest"),
    ],
)
def test_a_repository_with_other_content_is_refused(
    place: Path, hub: Hub, change: dict[str, bytes], sentence: str
) -> None:
    hub.add(NAME, {".gitattributes": b"", "notes.txt": b"mine"} | change, private=True)
    with pytest.raises(Usage, match=sentence):
        publish()
    assert hub.uploads.sent == []


def test_a_file_of_somebody_else_beside_the_checkpoint_is_refused(place: Path, hub: Hub) -> None:
    publish()
    hub.add(NAME, files(hub) | {"pytorch_model.bin": b"x"})
    with pytest.raises(Usage, match=r"has pytorch_model\.bin, which is not part of this checkpoint"):
        publish()


def test_another_checkpoint_and_its_tag_are_refused(place: Path, hub: Hub) -> None:
    publish()
    other = "b" * 64
    body = json.loads((place / "checkpoint/manifest.json").read_text())
    text = manifest.seal({name: value for name, value in body.items() if name != "seal"} | {"key": other})
    hub.add(NAME, files(hub) | {"manifest.json": text.encode()})
    with pytest.raises(Usage, match="holds another checkpoint, bbbbbbbbbbbb: publish this one"):
        publish()
    hub.repositories["model", NAME].tags[other] = "0" * 40
    with pytest.raises(Usage, match="has the tag of another checkpoint, bbbbbbbbbbbb"):
        publish()


def test_what_is_public_is_not_taken_for_private(place: Path, hub: Hub) -> None:
    hub.add(NAME, {".gitattributes": b""})
    with pytest.raises(Usage, match=r"org/demo-NVFP4 is public and private=true was asked for"):
        publish()
    assert publish("private=false") == 0
    hub.repositories["model", NAME].private = True
    with pytest.raises(Usage, match="is private and private=false was asked for"):
        publish("private=false")


def test_a_moved_repository_is_named(place: Path, hub: Hub) -> None:
    hub.add("org/new", {".gitattributes": b""}, private=True)
    hub.moved[NAME] = "org/new"
    with pytest.raises(Usage, match="org/demo-NVFP4 has moved to org/new"):
        publish()


def test_without_a_terminal_it_shows_and_sends_nothing(
    place: Path, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Usage, match="nothing was sent: give yes=true where nobody can be asked"):
        publish("yes=false")
    said = capfd.readouterr().out
    for text in (
        SHARD,
        "manifest.json",
        "beside the seal",
        "org/demo-NVFP4 (new)",
        "(private)",
        "one commit",
    ):
        assert text in said
    assert hub.repositories == {}


@pytest.mark.parametrize(("answer", "sends"), [("y\n", True), ("\n", False), ("no\n", False), ("", False)])
def test_a_person_is_asked(
    place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, answer: str, sends: bool
) -> None:
    import io

    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    if sends:
        assert publish("yes=false") == 0
    else:
        with pytest.raises(Usage, match="nothing was sent"):
            publish("yes=false")
    assert bool(hub.repositories) is sends


@pytest.mark.parametrize("name", ["x", "a/b/c", "a b/c", "/x", "hf://a/b", "a/b@main"])
def test_a_name_that_is_not_a_repository_is_refused(name: str) -> None:
    with pytest.raises(Usage, match="it must be OWNER/NAME, as the hub has it"):
        run(["checkpoint=checkpoint", f"repository='{name}'"])


def test_a_name_that_the_hub_refuses_is_one_sentence(place: Path, hub: Hub) -> None:
    with pytest.raises(Usage, match=r"repository=org/a\.\.b is not a name that the hub takes"):
        run(["checkpoint=checkpoint", "repository=org/a..b", "yes=true", *OFF])


def test_offline_is_said(place: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.utils._http.reset_sessions", lambda: None)
    from huggingface_hub.utils import _http

    _http._get_session_from_cache.cache_clear()
    try:
        with pytest.raises(Usage, match="HF_HUB_OFFLINE is set, and publishing needs the hub"):
            publish()
    finally:
        _http._get_session_from_cache.cache_clear()
