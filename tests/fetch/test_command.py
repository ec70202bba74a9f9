"""`fetch` and then no network; a disk that fills up during a download."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from disks import needs_root, small_disk
from fetching import FIRST, MODEL, NAME, fetch, folder, large, small, start
from hub import Hub
from running import ROOT, contents, python
from several import SMALL

from proofcard.documents import read
from proofcard.documents.fetched import Fetched

CHAT = "calibration.datasets.magpie_pro_mt"
REMOTE = [f"{CHAT}.path=null", f"{CHAT}.repository=demo/chat"]


def test_after_a_fetch_the_same_recipe_needs_no_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(NAME, MODEL)
    texts = hub.add("demo/chat", ROOT / "demo" / "datasets" / "magpie_pro_mt", "dataset")
    recipe = [*SMALL, *REMOTE, f"{CHAT}.revision={texts}"]
    status, said, errors = fetch(tmp_path, commit, *recipe)
    assert status == 0, errors
    assert contents(folder(tmp_path, commit)) == contents(MODEL)
    (sealed,) = (tmp_path / "runs" / "samples").glob("demo-*")
    assert said.splitlines()[-2].endswith(f"tokens: runs/samples/{sealed.name}")
    assert said.splitlines()[-2].startswith("20 samples, ")
    fetched = read(Fetched, tmp_path / "runs" / "fetched" / "demo.json")
    assert fetched.model is not None and fetched.samples is not None
    assert fetched.model.commit == commit and all(file.fetched for file in fetched.model.files.values())
    assert fetched.samples.key.startswith(sealed.name.removeprefix("demo-"))
    hub.requests.clear()
    assert fetch(tmp_path, commit, *recipe)[0] == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    process = start("quantize", tmp_path, commit, "output_dir=checkpoint", *recipe)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert f"tokens: runs/samples/{sealed.name}" in said
    assert hub.requests == []


def test_a_dataset_without_a_commit_is_named_before_the_shards_come(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, MODEL)
    texts = hub.add("demo/chat", ROOT / "demo" / "datasets" / "magpie_pro_mt", "dataset")
    status, _, errors = fetch(tmp_path, commit, *REMOTE)
    assert status == 2
    assert f"set {CHAT}.revision={texts}, the current commit of main" in errors
    assert hub.asked(FIRST) == []


def test_where_nothing_is_on_the_hub_there_is_nothing_to_fetch(tmp_path: Path) -> None:
    status, _, errors = fetch(tmp_path, None, f"model.path={MODEL}")
    assert status == 2
    assert "there is nothing to fetch" in errors


def fill(disk: Path, leave: int) -> Path:
    """Somebody else's file, which leaves so many bytes free."""
    path = disk / "somebody else's"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > leave:
            file.write(bytes(1 << 16))
    return path


FETCH = """
import sys
from pathlib import Path
from proofcard.checkpoint.download import Download
from proofcard.checkpoint.repository import Repository
delivery = Download(Repository(sys.argv[1], sys.argv[2]), Path("runs/sources"))
delivery.fetch(lambda _: True)
print(len(delivery.missing))
"""


def begin_fetch(cwd: Path, commit: str) -> "subprocess.Popen[str]":
    """The download alone, without what surrounds it in the command."""
    out = subprocess.PIPE
    words = [sys.executable, "-c", FETCH, NAME, commit]
    return subprocess.Popen(words, cwd=cwd, text=True, stdout=out, stderr=out, env=os.environ | PIPELINE)


PIPELINE = {"PYTHONPATH": str(ROOT)}


def until_asked(hub: Hub, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not hub.asked(FIRST):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_fetch_waits_and_takes_what_the_first_has_brought(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, small())
    served = hub.hold(FIRST)
    first = begin_fetch(tmp_path, commit)
    until_asked(hub, first)
    second = begin_fetch(tmp_path, commit)
    assert second.stderr is not None
    assert f"process {first.pid} on " in second.stderr.readline()
    served.set()
    assert [process.communicate(timeout=60)[0] for process in (first, second)] == ["0\n", "0\n"]
    assert contents(folder(tmp_path, commit)) == small()
    assert len(hub.asked(FIRST)) == 1


def test_one_that_waits_goes_on_when_the_first_is_killed(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, small())
    served = hub.hold(FIRST)
    first = begin_fetch(tmp_path, commit)
    until_asked(hub, first)
    second = begin_fetch(tmp_path, commit)
    assert second.stderr is not None
    assert f"process {first.pid} on " in second.stderr.readline()
    first.kill()
    first.communicate()
    served.set()
    assert second.communicate(timeout=60)[0] == "0\n"
    assert contents(folder(tmp_path, commit)) == small()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"promised": 3, "checked": {}}', "[" * 100_000, "\0"])
def test_a_damaged_record_of_a_download_is_not_believed(hub: Hub, tmp_path: Path, damage: str) -> None:
    commit = hub.add(NAME, {"config.json": b"{}"})
    record = tmp_path / "runs" / "sources" / f".demo--minimax@{commit[:12]}.json"
    record.parent.mkdir(parents=True)
    record.write_text(damage)
    program = tmp_path / "program.py"
    program.write_text(FETCH)
    said = python(program, NAME, commit, cwd=tmp_path)
    assert said.stdout == "0\n", said.stderr


@needs_root
@pytest.mark.parametrize("leave", [12 << 20, 0])
def test_a_disk_that_fills_up_keeps_what_has_come_and_the_download_goes_on(
    hub: Hub, tmp_path: Path, leave: int
) -> None:
    commit = hub.add(NAME, large())
    with small_disk(tmp_path / "disk", 40) as disk:
        served = hub.hold(FIRST)
        process = start("fetch", disk, commit)
        deadline = time.monotonic() + 120
        while not hub.asked(FIRST):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        others = fill(disk, leave)
        served.set()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.splitlines()[-1] == "fetch: the disk is full: free some space; the same command resumes"
        assert "Traceback" not in errors
        assert contents(folder(disk, commit)) == {name: small()[name] for name in small() if name != FIRST}
        others.unlink()
        hub.requests.clear()
        status, _, errors = fetch(disk, commit)
        assert status == 0, errors
        (asked,) = hub.asked(FIRST)
        assert bool(asked.range) == bool(leave)  # what had come is not asked for again
        assert contents(folder(disk, commit)) == large()
