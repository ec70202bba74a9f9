"""`verify checkpoint=hf://… source=hf://…` against a stand-in of the hub, through the real client."""

import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from rich.console import Console
from running import PROOFCARD
from verify.making import Verified, edit_json, load, make_checkpoint, make_source, save

from proofcard.checkpoint import streamed
from proofcard.checkpoint.repository import Repository
from proofcard.checkpoint.tensors import read_header
from proofcard.config.schema import HubAddress, VerifyConfig
from proofcard.errors import Stop, Usage
from proofcard.verify import run

SHARD = "model-00002-of-00004.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three shards, in which layers are sorted otherwise than in the checkpoint's."""
    folder = make_source(tmp_path_factory.mktemp("source") / "model")
    tensors = load(folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    save(folder, tensors, 3)
    return folder


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sealed") / "checkpoint", source, shards=4)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as serving:
        template = serving.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", serving.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("proofcard.hub.FIRST_WAIT", 0.01)
        monkeypatch.chdir(tmp_path)
        yield serving


def verify(hub: Hub, checkpoint: Path, source: Path | None = None, **more: Any) -> tuple[int, str, Any]:
    """Exit status, screen and report, both sides on the hub."""
    sides: dict[str, Any] = {"checkpoint": HubAddress(f"hf://org/made@{hub.add('org/made', checkpoint)}")}
    sides["source"] = source and HubAddress(f"hf://org/model@{hub.add('org/model', source)}")
    return started(**sides, **more)


def started(**words: Any) -> tuple[int, str, Any]:
    screen = io.StringIO()
    config = VerifyConfig(**({"source": None, "levels": None, "report": None} | words))
    status = run(config, Console(file=screen, width=100))
    report = next(Path().glob("*.verification.json"))
    return status, screen.getvalue(), json.loads(report.read_text())


def without_addresses(report: dict[str, Any]) -> dict[str, Any]:
    return report | {"checkpoint": None, "source": None}


def test_it_says_what_local_folders_say(hub: Hub, sealed: Path, source: Path, tmp_path: Path) -> None:
    status, screen, report = verify(hub, sealed, source)
    local = Verified(sealed, source, width=100)
    assert (status, screen.splitlines()[-1].split()[0]) == (0, "verified")
    assert without_addresses(report) == local.report
    assert report["checkpoint"].startswith("hf://org/made@")
    assert not (tmp_path / "runs").exists()  # nothing is kept


def test_twice_in_one_process(hub: Hub, sealed: Path, source: Path, tmp_path: Path) -> None:
    """The second run's files have the names of the first one's, which are gone."""
    assert [verify(hub, sealed, source)[0] for _ in range(2)] == [0, 0]


def test_no_hole_is_read_as_zeros(hub: Hub, sealed: Path, source: Path, tmp_path: Path) -> None:
    commit = hub.add("org/made", sealed)
    with streamed.Streamed(
        Repository("org/made", commit, "checkpoint", address=True), tmp_path / "w", ()
    ) as s:
        (tmp_path / "link").symlink_to(s.folder)
        tensor = next(iter(read_header(tmp_path / "link" / SHARD).values()))
        with pytest.raises(Stop, match="is still downloading"):
            tensor.raw()
        assert next(iter(read_header(s.folder / SHARD).values())).raw().any()


def test_what_was_not_fetched_is_not_compared(
    hub: Hub, sealed: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files of one length that nobody has fetched are not equal for that."""
    monkeypatch.setattr("proofcard.checkpoint.remote_folder._READ_WHOLE", (".json", ".py"))
    sides = []
    for folder, content in ((sealed, b"one"), (source, b"two")):
        sides.append(Path(shutil.copytree(folder, tmp_path / content.decode())))
        (sides[-1] / "manifest.json").unlink(missing_ok=True)
        (sides[-1] / "source.spm").write_bytes(content)
    status, screen, _ = verify(hub, *sides)
    assert status == 2
    assert "source.spm was not fetched" in screen.replace("\n", " ")


def test_every_byte_comes_once(hub: Hub, sealed: Path, source: Path) -> None:
    verify(hub, sealed, source)
    for folder in (sealed, source):
        for path in folder.glob("*.safetensors"):
            whole = [asked for asked in hub.asked(path.name) if not asked.range]
            assert len(whole) == (2 if (sealed / path.name).exists() and (source / path.name).exists() else 1)


@pytest.mark.parametrize("again", ["by range", "whole"])
def test_a_difference_is_named_as_of_local_folders(
    hub: Hub, sealed: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """Its cause is looked for when its shards have gone: they come again, in part or whole."""
    if again == "whole":
        monkeypatch.setattr(streamed, "_AGAIN", 0)
    harmed = Path(shutil.copytree(sealed, tmp_path / "harmed"))
    for path in sorted(harmed.glob("*.safetensors")):
        content = bytearray(path.read_bytes())
        content[-5] ^= 4
        path.write_bytes(content)
    local = Verified(harmed, source, width=100)
    status, _, report = verify(hub, harmed, source)
    assert status == local.status == 1
    assert without_addresses(report) == local.report


def test_shards_go_when_they_are_read(
    hub: Hub, sealed: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    drop = streamed.Streamed._let_go

    def let_go(self: streamed.Streamed) -> None:
        nonlocal most
        most = max(most, sum(shard.here for shard in self._shards.values()))
        drop(self)

    monkeypatch.setattr(streamed.Streamed, "_let_go", let_go)
    status, _, _ = verify(hub, sealed, source)
    assert status == 0
    assert 0 < most <= 3


def test_what_was_never_sealed_is_held_to_the_hub(
    hub: Hub, sealed: Path, source: Path, tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(sealed, tmp_path / "bare", ignore=shutil.ignore_patterns("manifest.json")))
    (bare / "picture.png").write_bytes(bytes(100))
    status, screen, report = verify(hub, bare, source)
    assert status == 0, screen
    said = report["levels"]["integrity"]
    assert said["counts"]["tensors"] == len(load(sealed))
    assert "checked against the hub's digests" in said["notes"][0]
    assert "picture.png" in said["notes"][1]
    assert not hub.asked("picture.png")


def test_a_connection_that_breaks_is_taken_up(
    hub: Hub, sealed: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # bytes written at a time
    hub.cut(SHARD, at=1000, times=2)
    assert verify(hub, sealed, source)[0] == 0
    assert any(asked.range.startswith("bytes=1000-") for asked in hub.asked(SHARD))


def test_other_bytes_than_promised_are_not_judged(hub: Hub, sealed: Path, source: Path) -> None:
    hub.wrong.add(SHARD)
    status, screen, report = verify(hub, sealed, source)
    assert (status, report["result"]) == (2, "not checked")
    assert f"{SHARD} came with digest" in screen.replace("\n", " ")


def test_the_same_command_goes_on(
    hub: Hub, sealed: Path, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Cut short in the middle, it asks again for nothing that was read before.

    The last shard, which ends it, comes late: those before it have been read by then.
    """
    last = "model-00004-of-00004.safetensors"
    hub.wrong.add(last)
    threading.Timer(4, hub.hold(last).set).start()
    assert verify(hub, sealed, source)[0] == 2
    read = [name for name in hub_shards(sealed) if name != last and hub.asked(name)]
    hub.wrong.clear()
    hub.requests.clear()
    status, _, report = verify(hub, sealed, source)
    assert status == 0
    assert without_addresses(report) == Verified(sealed, source, width=100).report
    assert read and not [name for name in read if [r for r in hub.asked(name) if not r.range]]
    assert not (tmp_path / "runs").exists()


def hub_shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_kept_when_asked(hub: Hub, sealed: Path, source: Path, tmp_path: Path) -> None:
    status, _, report = verify(hub, sealed, source, keep=True)
    assert status == 0
    for side, folder in (("made", sealed), ("model", source)):
        (kept,) = (tmp_path / "runs" / "sources").glob(f"org--{side}@*")
        assert {p.name: p.read_bytes() for p in kept.iterdir()} == {
            p.name: p.read_bytes() for p in folder.iterdir()
        }
    assert report["result"] == "verified"


def test_one_side_may_be_local(hub: Hub, sealed: Path, source: Path) -> None:
    commit = hub.add("org/model", source)
    sealed_copy = Path(shutil.copytree(sealed, "here"))
    status, screen, report = started(checkpoint=sealed_copy, source=HubAddress(f"hf://org/model@{commit}"))
    assert status == 0, screen
    assert (report["checkpoint"], report["source"]) == (None, f"hf://org/model@{commit}")
    status, screen, _ = verify(hub, sealed, None, levels=("structure",))
    assert status == 0, screen


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hf://org/none@" + "0" * 40, "the hub has no model org/none: check checkpoint, or give "),
        ("hf://org/made@" + "0" * 40, "org/made has no commit 0000"),
        ("hf://org/shut@" + "0" * 40, "org/shut is gated: accept its conditions at "),
        ("hf://org/old@" + "0" * 40, "org/old has moved to org/made: "),
    ],
)  # fmt: skip
def test_the_hub_s_refusals_are_a_sentence(hub: Hub, sealed: Path, address: str, sentence: str) -> None:
    hub.add("org/made", sealed)
    hub.add("org/shut", {"config.json": b"{}"}, token="secret", gated=True)
    hub.moved["org/old"] = "org/made"
    if "/old@" in address:
        address = f"hf://org/old@{hub.repositories['model', 'org/made'].main}"
    with pytest.raises(Stop) as refused:
        started(checkpoint=HubAddress(address))
    assert str(refused.value).startswith(sentence)
    assert not Path("runs").exists()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["hf://made", "hf://org/made@", "hf://org/made/x@" + "0" * 40])
def test_what_is_no_address(hub: Hub, address: str) -> None:
    with pytest.raises(Usage, match="not of the form hf://OWNER/NAME@COMMIT"):
        started(checkpoint=HubAddress(address))


@pytest.mark.parametrize("revision", ["", "@main", "@0123abc"])
def test_a_branch_can_move(hub: Hub, sealed: Path, revision: str) -> None:
    commit = hub.add("org/made", sealed)
    with pytest.raises(Usage, match=f"40 hex digits of a commit \\(main is at {commit}\\)"):
        started(checkpoint=HubAddress(f"hf://org/made{revision}"))


def test_names_that_lead_elsewhere_are_refused(hub: Hub) -> None:
    commit = hub.add("org/made", {"config.json": b"{}", "../evil.json": b"{}"})
    with pytest.raises(Stop, match="refused"):
        started(checkpoint=HubAddress(f"hf://org/made@{commit}"))
    assert not Path("runs/evil.json").exists()


def test_a_header_that_is_none_is_a_difference(hub: Hub, sealed: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(sealed, tmp_path / "bad", ignore=shutil.ignore_patterns("manifest.json")))
    (bad / SHARD).write_bytes(b"\xff" * 2000)
    local = Verified(bad, levels=("structure",), width=100)
    status, _, report = verify(hub, bad, levels=("structure",))
    assert (status, without_addresses(report)) == (local.status, local.report)


def test_an_unreadable_index_is_what_it_is_locally(hub: Hub, sealed: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(sealed, tmp_path / "bad", ignore=shutil.ignore_patterns("manifest.json")))
    edit_json(bad / "model.safetensors.index.json", lambda index: index["weight_map"].update(x="../y"))
    local = Verified(bad, levels=("structure",), width=100)
    status, _, report = verify(hub, bad, levels=("structure",))
    assert (status, without_addresses(report)) == (local.status, local.report)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_cut_short_and_started_again(
    hub: Hub, sealed: Path, source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    sides = {"checkpoint": ("made", sealed), "source": ("model", source)}
    addresses = {side: f"hf://org/{n}@{hub.add(f'org/{n}', folder)}" for side, (n, folder) in sides.items()}
    words = [f"{side}={address}" for side, address in addresses.items()]
    settings = os.environ | {"HF_ENDPOINT": hub.endpoint}
    gate = hub.hold(SHARD)

    first = subprocess.Popen(
        [PROOFCARD, "verify", *words], cwd=tmp_path, env=settings, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not hub.asked(SHARD) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(number)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == (130 if number == signal.SIGINT else -9)
    assert "Traceback" not in errors
    gate.set()
    status, said, _ = started(**{side: HubAddress(address) for side, address in addresses.items()})
    assert (status, said.splitlines()[-1].split()[0]) == (0, "verified"), said
    assert len([asked for asked in hub.asked("model-00001-of-00004.safetensors") if not asked.range]) == 1
