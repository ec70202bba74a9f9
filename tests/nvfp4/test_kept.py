"""Compiled loops that a run leaves for the next: used only where nobody else could have written them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from proofcard.nvfp4 import kept  # noqa: E402
from proofcard.nvfp4.compiled import inline, kernel  # noqa: E402

FACTOR = np.array([3, 5], np.int64)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "proofcard" / "kernels"


def loop(factor: int = 2, table: np.ndarray = FACTOR) -> Callable[[int], int]:
    """A new loop, as a new process would have it."""

    @inline
    def times(value: int) -> int:
        return value * factor

    @kernel(numba.int64(numba.int64))
    def work(value: int) -> int:
        return times(value) + table[1]

    return work


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A signature for each loop that is compiled."""
    said: list[Any] = []
    save = kept.Kept.save_overload

    def saved(self: kept.Kept, signature: Any, result: Any) -> None:
        said.append(signature)
        save(self, signature, result)

    monkeypatch.setattr(kept.Kept, "save_overload", saved)
    return said


def test_the_second_run_compiles_nothing(folder: Path, compiled: list[Any]) -> None:
    assert [loop()(7), loop()(7)] == [19, 19]
    assert len(compiled) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("other", [{"factor": 3}, {"table": FACTOR + 1}])
def test_what_a_loop_reads_and_calls_is_in_its_name(
    folder: Path, compiled: list[Any], other: dict[str, Any]
) -> None:
    assert loop()(7) != loop(**other)(7)
    assert len(compiled) == 2


def test_so_are_numba_and_its_settings(
    folder: Path, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in ((numba, "__version__", "0"), (numba.config, "BOUNDSCHECK", 1)):
        loop()(7)
        monkeypatch.setattr(module, name, value)
    loop()(7)
    assert len(compiled) == 3


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def linked_folder(path: Path) -> None:
    path.parent.rename(path.parent.parent / "elsewhere")
    path.parent.symlink_to("elsewhere")


def another_users(path: Path) -> None:
    os.chown(path, 1234, 1234)


SPOILED: dict[str, Callable[[Path], object]] = {
    "a bit flipped": flip,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:99]),
    "empty": lambda path: path.write_bytes(b""),
    "a FIFO": fifo,
    "a link": link,
    "writable for a group": lambda path: path.chmod(0o620),
    "another user's": another_users,
    "a folder that all may read": lambda path: path.parent.chmod(0o755),
    "another user's folder": lambda path: another_users(path.parent),
    "a linked folder": linked_folder,
    "below a folder that all may write": lambda path: path.parents[1].chmod(0o777),
    "below another user's folder": lambda path: another_users(path.parents[1]),
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_others_may_have_written_is_not_opened(
    folder: Path, compiled: list[Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if "another" in how and os.geteuid():
        pytest.skip("only root can give files away")
    loop()(7)
    (path,) = folder.iterdir()
    SPOILED[how](path)
    monkeypatch.setattr("pickle.loads", lambda _: pytest.fail("unpickled"))
    assert loop()(7) == 19
    assert len(compiled) == 2


@pytest.mark.parametrize("cache", ["/dev/null", "relative", "/proc/none"])
def test_without_a_folder_it_works_all_the_same(
    compiled: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert [loop()(7), loop()(7)] == [19, 19]
    assert len(compiled) == 2
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_file_that_cannot_be_written_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop()(7)
    shutil.rmtree(folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    assert loop()(7) == 19
    assert not list(folder.iterdir())


def test_those_that_were_not_used_for_longest_are_removed(
    folder: Path, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_MOST", 2)
    for factor in (1, 2):
        loop(factor)(7)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    loop(1)(7)  # of both, the one that was used now
    loop(3)(7)
    assert len(list(folder.iterdir())) == 2
    loop(1)(7)
    assert len(compiled) == 3
