"""kill -9, a power cut, a full disk: the same command resumes after the last complete layer; same bytes."""

import json
import os
import random
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
from disks import needs_root, small_disk
from forking import Forked
from running import contents, surroundings, tiny, tiny_recipe

LAYERS = 3
TWO_EXPERTS = {"num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1}
MOMENTS = 16
MOST = 200  # moments, where few of them find each of the layers
FULL_EVERY = 4  # of the moments, one in so many is a full disk


class Attempts:
    """The server of attempts.py, and what an undisturbed run of it made."""

    def __init__(self, folder: Path, texts: Path) -> None:
        self.log = folder / "log"
        source = tiny(folder / "source", "mixtral", num_hidden_layers=LAYERS, **TWO_EXPERTS)
        overrides = [
            *tiny_recipe(source, texts), f"output_dir={folder}/undisturbed", f"work_dir={folder}/runs",
            "tracking=off", "hardware.threads=1", "kv_cache=fp8_affine", "coverage=top_up",
            "coverage.minimum_tokens=50", "calibration.datasets.text.samples=4",
        ]  # fmt: skip
        program = Path(__file__).with_name("attempts.py")
        with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
            address = f"{short}/attempts"
            listener.bind(address)
            listener.listen()
            listener.settimeout(1)
            words = [str(program), address, *overrides]
            self._server = Forked(words, folder, os.environ | surroundings())
            self._stream = self._connected(listener)
        assert self._answer() == "made"
        self.undisturbed = contents(folder / "undisturbed")

    def begin(
        self, folder: Path, die_at: int | None = None, power_cut: bool = False, threads: int = 1
    ) -> int:
        """Start an attempt at `folder/checkpoint`; returns its process id."""
        request = {
            "output_dir": str(folder / "checkpoint"), "threads": threads, "log": str(self.log),
            "die_at": die_at, "power_cut": power_cut,
        }  # fmt: skip
        self.log.unlink(missing_ok=True)
        print(json.dumps(request), file=self._stream, flush=True)
        return int(self._answer())

    def end(self) -> int:
        """The exit status of what was begun, when it has one."""
        return int(self._answer())

    def run(
        self,
        folder: Path,
        die_at: int | None = None,
        power_cut: bool = False,
        threads: int = 1,
        anew: bool = False,
    ) -> int:
        """An attempt from its beginning to its end; returns its exit status.

        Checks that it ran the layers after those that were complete, all of them if `anew`, and no others.
        """
        before = 0 if anew else complete(folder)
        self.begin(folder, die_at, power_cut, threads)
        status = self.end()
        self.check(before)
        return status

    def check(self, before: int) -> None:
        """What the last attempt said of its layers, when so many were complete before it."""
        said = self.said()
        ran = [int(number) for number in re.findall(rf"layer (\d+)/{LAYERS}:", said)]
        assert ran == list(range(before + 1, before + 1 + len(ran))), said
        assert (f"resuming after layer {before} of {LAYERS}" in said) or not ran or not before

    def said(self) -> str:
        """What the last attempt has printed; nothing when it was killed before it could."""
        return self.log.read_text() if self.log.exists() else ""

    def stop(self) -> None:
        """End the server."""
        self._stream.close()
        self._server.communicate()

    def _connected(self, listener: socket.socket) -> TextIO:
        """What the server reads and answers with, once it has come up."""
        while self._server.poll() is None:
            with suppress(TimeoutError), listener.accept()[0] as connection:
                return connection.makefile("rw")
        raise AssertionError(self._server.communicate()[1])

    def _answer(self) -> str:
        answer = self._stream.readline().strip()
        assert answer, self._server.communicate()[1]
        return answer


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Iterator[Attempts]:
    server = Attempts(tmp_path_factory.mktemp("attempts"), texts)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def after_a_layer(attempts: Attempts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is left of a run that was killed when its first layer was complete."""
    folder = tmp_path_factory.mktemp("killed")
    number = 0
    while not complete(folder):
        number += 1
        assert attempts.run(folder, die_at=number) == -signal.SIGKILL
    assert complete(folder) == 1
    return folder


@pytest.fixture
def killed(after_a_layer: Path, tmp_path: Path) -> Path:
    """A copy of it to go on from."""
    return Path(shutil.copytree(after_a_layer, tmp_path / "killed"))


def complete(folder: Path) -> int:
    """How many layers are complete, as far as a next run will see."""
    return len(list((folder / ".checkpoint.state").glob("layer-?????.json")))


def nothing_is_left(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"checkpoint", ".checkpoint.lock"}


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_power_cut_before_every_single_order_to_the_disk(attempts: Attempts, tmp_path: Path) -> None:
    """Each attempt gets one order further than the last; from a complete layer on they are counted anew."""
    seen: dict[int, int] = {}
    number, standing = 0, 0
    while True:
        number += 1
        status = attempts.run(tmp_path, die_at=number, power_cut=True)
        if status == 0:
            break
        assert status == -signal.SIGKILL, attempts.log.read_text()
        assert complete(tmp_path) >= standing or (tmp_path / "checkpoint").exists()
        seen[standing] = number
        if complete(tmp_path) > standing:
            standing, number = complete(tmp_path), 0
    assert contents(tmp_path / "checkpoint") == attempts.undisturbed
    assert seen.keys() == set(range(LAYERS + 1))
    assert min(seen.values()) > 5, seen
    assert seen[LAYERS] > len(attempts.undisturbed), "sealing forces every file to disk"
    # It was killed right after sealing too: a state stands beside the checkpoint, and must not outlive it.
    assert complete(tmp_path) == LAYERS
    shutil.rmtree(tmp_path / "checkpoint")
    assert attempts.run(tmp_path, anew=True) == 0
    assert contents(tmp_path / "checkpoint") == attempts.undisturbed
    nothing_is_left(tmp_path)


@needs_root
def test_killed_at_random_moments(attempts: Attempts, tmp_path: Path) -> None:
    """kill -9, or another program takes all the room left and gives it back when the run has ended."""
    chosen = random.Random(3)
    found: list[int] = []
    left: list[int] = []
    full = 0
    with small_disk(tmp_path / "small", 8) as small:
        others = small / "somebody else's"
        started = time.monotonic()
        assert attempts.run(small) == 0
        undisturbed = time.monotonic() - started
        shutil.rmtree(small / "checkpoint")
        # On a busy machine most may end early: more are begun, until some have found each of the layers.
        while len(left) < MOMENTS or (not {1, 2} <= set(found) and len(left) < MOST):
            before = complete(small)
            pid = attempts.begin(small)
            wanted = chosen.randint(before, LAYERS)
            while complete(small) < wanted and alive(pid):
                time.sleep(0.002)
            # A layer this small, or the seal, takes no longer; the way to the first much longer.
            time.sleep(chosen.uniform(0, 0.03 if wanted > before else undisturbed))
            fills = len(left) % FULL_EVERY == 0
            if fills:
                fill(others)
            elif alive(pid):
                os.kill(pid, signal.SIGKILL)
            status = attempts.end()
            attempts.check(before)
            others.unlink(missing_ok=True)
            if status == 0:
                assert contents(small / "checkpoint") == attempts.undisturbed
                nothing_is_left(small)
                shutil.rmtree(small / "checkpoint")
                continue
            said = attempts.said()
            assert "Traceback" not in said
            if fills:
                full += 1
                assert "No space left on device" in said or "free, but the checkpoint needs" in said
                assert (
                    (f"resumes after layer {complete(small)} " in said)
                    or not complete(small)
                    or "free, but" in said
                )
            found.append(before)
            left.append(complete(small))
            if (small / "checkpoint").exists():  # killed between the seal and the end
                assert contents(small / "checkpoint") == attempts.undisturbed
                shutil.rmtree(small / "checkpoint")
                shutil.rmtree(small / ".checkpoint.state", ignore_errors=True)
        assert attempts.run(small) == 0
        assert contents(small / "checkpoint") == attempts.undisturbed
        nothing_is_left(small)
    assert len(set(left)) > 1, left  # which of them depends on how busy the machine is
    assert {1, 2} <= set(found), "no run found much to go on from"
    assert full > 0


def test_layers_of_another_number_of_threads_are_thrown_away_in_so_many_words(
    attempts: Attempts, killed: Path
) -> None:
    """The last bits of a product depend on it, and the manifest names one number."""
    assert attempts.run(killed, threads=2, anew=True) == 0
    said = " ".join(attempts.log.read_text().split())
    assert "after layer 1, is from another configuration, machine or number of threads: deleting it" in said
    made = contents(killed / "checkpoint")
    assert {name for name in made if made[name] != attempts.undisturbed[name]} == {"manifest.json"}


@pytest.mark.parametrize("gone", [".checkpoint.partial/model-00001", ".checkpoint.state/hidden-1"])
def test_what_is_complete_is_not_made_up_when_its_files_are_gone(
    attempts: Attempts, killed: Path, gone: str
) -> None:
    (lost,) = killed.glob(f"{gone}*")
    lost.unlink()
    assert attempts.run(killed) == 1
    said = attempts.log.read_text()
    assert "files of complete layers are missing: delete" in said
    shutil.rmtree(killed / ".checkpoint.state")
    assert attempts.run(killed) == 0
    assert contents(killed / "checkpoint") == attempts.undisturbed


def test_a_folder_that_was_removed_by_hand_is_made_anew(attempts: Attempts, killed: Path) -> None:
    shutil.rmtree(killed / ".checkpoint.partial")
    assert attempts.run(killed, anew=True) == 0
    assert contents(killed / "checkpoint") == attempts.undisturbed
