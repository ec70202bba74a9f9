"""A model from the hub: the real client against a stand-in on loopback, through our own commands."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fetching import FIRST, LAST, MODEL, NAME, SECOND, fetch, folder, large, small, start
from forking import Forked
from hub import Hub
from running import contents
from several import small as small_recipe


def test_a_fresh_download_holds_what_the_hub_holds_and_is_not_repeated(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, MODEL)
    status, said, errors = fetch(tmp_path, commit)
    assert status == 0, errors
    assert contents(folder(tmp_path, commit)) == contents(MODEL)
    assert said.count("right, fetched now") == len(contents(MODEL))
    assert max(map(len, said.splitlines())) <= 100
    hub.requests.clear()
    status, said, _ = fetch(tmp_path, commit)
    assert (status, hub.requests) == (0, [])
    assert said.count("right, was here") == len(contents(MODEL))


def test_after_a_cut_only_the_rest_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, large())
    hub.cut(FIRST, at=21_000_000)
    status, _, errors = fetch(tmp_path, commit)
    assert status == 0, errors
    assert [asked.range for asked in hub.asked(FIRST)] == ["", "bytes=20971520-"]
    assert contents(folder(tmp_path, commit)) == large()


def test_after_many_cuts_the_same_command_resumes(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, large())
    hub.cut(FIRST, at=21_000_000)
    hub.cut(FIRST, at=0, times=5)
    status, _, errors = fetch(tmp_path, commit)
    assert status == 1
    assert errors.rstrip().endswith("check the network; the same command resumes")
    assert FIRST not in contents(folder(tmp_path, commit))
    hub.cuts.clear()
    hub.requests.clear()
    assert fetch(tmp_path, commit)[0] == 0
    assert [asked.range for asked in hub.asked(FIRST)] == ["bytes=20971520-"]
    assert contents(folder(tmp_path, commit)) == large()


@pytest.mark.parametrize("file", [FIRST, "config.json"])
def test_wrong_bytes_never_have_a_final_name(hub: Hub, tmp_path: Path, file: str) -> None:
    commit = hub.add(NAME, small())
    hub.wrong.add(file)
    status, _, errors = fetch(tmp_path, commit)
    assert status == 1
    assert re.search(rf"{file} came with digest ([0-9a-f]+) .* the hub promised (?!\1)[0-9a-f]+ ", errors)
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.name == file]
    hub.wrong.clear()
    assert fetch(tmp_path, commit)[0] == 0


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_local_file_is_found_and_fetched_again(hub: Hub, tmp_path: Path, cut: bool) -> None:
    commit = hub.add(NAME, small())
    assert fetch(tmp_path, commit)[0] == 0
    path = folder(tmp_path, commit) / FIRST
    body = path.read_bytes()
    path.write_bytes(body[:-1] if cut else body[:-1] + bytes([body[-1] ^ 1]))
    status, _, errors = fetch(tmp_path, commit)
    assert status == 0
    assert f"{FIRST} differs from the file on the hub: downloading it again" in " ".join(errors.split())
    assert path.read_bytes() == body


def test_without_a_valid_token_one_sentence_says_what_to_do(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(NAME, small(), token="hf_" + "right" * 6)
    status, _, errors = fetch(tmp_path, commit)
    assert status == 1
    assert f"the hub denies access to {NAME} without a valid token (401)" in errors
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 6)
    status, _, errors = fetch(tmp_path, commit)
    assert status == 1
    assert "wrongwrong" not in errors
    monkeypatch.setenv("HF_TOKEN", "hf_" + "right" * 6)
    assert fetch(tmp_path, commit)[0] == 0
    kept = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert not any(b"rightright" in body for body in kept)


@pytest.mark.parametrize("token", ["", "hf_" + "other" * 6])
def test_a_gated_repository_names_the_licence_to_accept(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    commit = hub.add(NAME, small(), token="hf_" + "right" * 6, gated=True)
    monkeypatch.setenv("HF_TOKEN", token)
    status, _, errors = fetch(tmp_path, commit)
    assert status == 1
    assert f"{NAME} is gated: accept its conditions at {hub.endpoint}/{NAME} and set HF_TOKEN" in errors


def test_what_does_not_exist_is_named(hub: Hub, tmp_path: Path) -> None:
    status, _, errors = fetch(tmp_path, "0" * 40)
    says = f"fetch: the hub has no model {NAME}: check model.repository, or set model.path to a copy of it"
    assert (status, errors.strip()) == (1, says)
    commit = hub.add(NAME, small())
    status, _, errors = fetch(tmp_path, "0" * 40)
    assert status == 1
    assert f"{NAME} has no commit {'0' * 40}: check model.revision (main is at {commit})" in errors


def test_asked_too_often_it_waits_as_long_as_the_hub_says(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, small())
    hub.refuse(429, times=2, Retry_After="2")
    hub.refuse(503)
    started = time.monotonic()
    status, _, errors = fetch(tmp_path, commit)
    assert status == 0, errors
    assert time.monotonic() - started >= 4
    hub.refuse(429, times=5, Retry_After="0")
    status, _, errors = fetch(tmp_path, hub.add(NAME, small() | {"README.md": b"new"}))
    assert status == 1
    assert "too many requests (429): wait a few minutes; the same command resumes" in errors


def test_no_network_is_one_sentence(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add(NAME, small())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, _, errors = fetch(tmp_path, commit)
    assert status == 1
    assert "HF_HUB_OFFLINE is set" in errors
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert fetch(tmp_path, commit)[0] == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(tmp_path, commit)[0] == 0  # what is here needs no network


def test_a_branch_that_moves_changes_nothing_pinned(hub: Hub, tmp_path: Path) -> None:
    pinned = hub.add(NAME, small())
    moved = hub.add(NAME, small() | {"config.json": b"{}"})
    for revision in (None, "main"):
        status, _, errors = fetch(tmp_path, revision)
        assert status == 2
        assert f"(main is at {moved})" in errors
    assert fetch(tmp_path, pinned)[0] == 0
    assert contents(folder(tmp_path, pinned)) == small()


def made(process: subprocess.Popen[str] | Forked) -> None:
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, said + errors


def overrides() -> list[str]:
    return small_recipe()[2:]


def until(path: Path, process: subprocess.Popen[str] | Forked) -> None:
    deadline = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same(cwd: Path, local: dict[str, bytes]) -> None:
    """The same key and bytes; the manifest differs in what names the source alone."""
    found, wanted = contents(cwd / "checkpoint"), dict(local)
    manifests = [json.loads(files.pop("manifest.json")) for files in (found, wanted)]
    assert found == wanted
    for said in manifests:
        del said["seal"]
        said["config"]["model"] |= {"repository": None, "revision": None}
    assert manifests[0] == manifests[1]


def test_layers_are_made_while_later_shards_have_not_been_served(
    hub: Hub, alone: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.add(NAME, MODEL)
    last = hub.hold(LAST)
    process = start("quantize", tmp_path, commit, *overrides())
    until(tmp_path / ".checkpoint.state" / "layer-00000.json", process)
    assert not (folder(tmp_path, commit) / LAST).exists()
    assert (folder(tmp_path, commit) / FIRST).exists()
    last.set()
    made(process)
    assert_same(tmp_path, alone)


def test_killed_on_the_way_the_same_command_resumes_download_and_layers(
    hub: Hub, alone: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.add(NAME, MODEL)
    hub.hold(LAST)
    process = start("quantize", tmp_path, commit, *overrides())
    until(tmp_path / ".checkpoint.state" / "layer-00000.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hub.held.pop(LAST).set()
    hub.requests.clear()
    process = start("quantize", tmp_path, commit, *overrides())
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "resuming after layer" in errors
    assert hub.asked(FIRST) == [] and hub.asked(SECOND) == []
    assert_same(tmp_path, alone)


def test_a_wrong_shard_ends_the_run_and_it_resumes(hub: Hub, alone: dict[str, bytes], tmp_path: Path) -> None:
    commit = hub.add(NAME, MODEL)
    hub.wrong.add(LAST)
    process = start("quantize", tmp_path, commit, *overrides())
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert f"{LAST} came with digest" in errors and "Traceback" not in errors
    assert not (tmp_path / "checkpoint").exists()
    hub.wrong.clear()
    made(start("quantize", tmp_path, commit, *overrides(), "engine=layerwise"))
    assert_same(tmp_path, alone)


def test_code_that_is_not_pinned_is_listed_and_not_run(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, MODEL)
    process = start(
        "quantize", tmp_path, commit, "tracking=off", "~model.remote_code", "+model.remote_code={}"
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert 'pin it under model.remote_code:\n  configuration_minimax_m2.py: "' in errors
    assert '\n  modeling_minimax_m2.py: "' in errors
    assert not (folder(tmp_path, commit) / FIRST).exists()


def test_several_ranks_are_told_to_fetch_first(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proofcard.checkpoint.opening import opened
    from proofcard.config.schema import Model
    from proofcard.errors import Stop

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    commit = hub.add(NAME, MODEL)
    model = Model(
        name="x", repository=NAME, revision=commit, path=None, config=None, remote_code={},
        attn_implementation="eager",
    )  # fmt: skip
    with pytest.raises(Stop, match="run `proofcard fetch model"):
        opened(model, tmp_path / "runs", streamed=False)
    shutil.copytree(MODEL, folder(tmp_path, commit))
    assert (
        opened(model, tmp_path / "runs", streamed=False).files()
        == opened(model.model_copy(update={"path": MODEL}), tmp_path, streamed=False).files()
    )
