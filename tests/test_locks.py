"""A lock excludes real processes, ends with them, and is refused in words where a filesystem has none."""

import errno
import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from children import ended, forked
from waiting import until

from proofcard import locks
from proofcard.errors import Stop
from proofcard.locks import Busy, alone, check_free


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_GRACE", 0.05)


def hold(path: Path, seconds: float = 60.0) -> int:
    """A process that holds the lock; returns when it does."""

    def work() -> None:
        with alone(path, "writing x", waits=False):
            path.with_suffix(".held").touch()
            time.sleep(seconds)

    pid = forked(work)
    until(path.with_suffix(".held").exists)
    return pid


def test_the_second_is_told_who_holds_it_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    pid = hold(path)
    holder = f"process {pid} on {os.uname().nodename} is writing x"
    with pytest.raises(Busy, match=holder), alone(path, "writing x", waits=False):
        pass
    with pytest.raises(Busy, match=holder):
        check_free(path, "writing x")
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    check_free(path, "writing x")
    with alone(path, "writing x", waits=False):
        pass


def test_one_that_waits_says_so_and_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lock"
    pid = hold(path, seconds=0.4)
    with alone(path, "writing [x]", waits=True):
        assert ended(pid) == 0
    assert f"process {pid} on {os.uname().nodename} is writing [x]: waiting for it" in " ".join(
        capsys.readouterr().err.split()
    )


def test_many_add_to_one_number_and_none_is_lost(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")

    def work() -> None:
        for _ in range(20):
            with alone(tmp_path / "lock", "counting", waits=True):
                number = int(count.read_text())
                time.sleep(0.0005)
                count.write_text(str(number + 1))

    assert [ended(pid) for pid in [forked(work) for _ in range(4)]] == [0] * 4
    assert count.read_text() == "80"


def test_a_lock_that_was_removed_while_one_waited_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = hold(path, seconds=0.5)
    path.unlink()  # as when somebody clears the folder
    with alone(path, "writing x", waits=True):
        pass
    second = hold(path.with_name("lock"), seconds=60)  # a new file: the first one does not free it
    ended(first)
    with pytest.raises(Busy), alone(path, "writing x", waits=False):
        pass
    os.kill(second, signal.SIGKILL)
    ended(second)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_stands_under_its_name_is_neither_followed_nor_changed(tmp_path: Path, kind: str) -> None:
    path, mine = tmp_path / "lock", tmp_path / "mine"
    mine.write_text("mine")
    if kind == "link":
        path.symlink_to(mine)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises((Stop, OSError)), alone(path, "writing x", waits=True):
        pass
    assert mine.read_text() == "mine"


def test_another_user_s_lock_that_may_only_be_read_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    path.touch()
    genuine = os.open

    def guarded(name: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return genuine(name, flags, mode)

    monkeypatch.setattr(os, "open", guarded)
    with (
        alone(path, "writing x", waits=False),
        pytest.raises(Busy, match="another process is writing"),
        alone(path, "writing x", waits=False),
    ):
        pass


NONE = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL]


def without(monkeypatch: pytest.MonkeyPatch, number: int, *functions: str) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for function in functions:
        monkeypatch.setattr(fcntl, function, refused)


@pytest.mark.parametrize("number", NONE)
def test_without_flock_the_older_lock_excludes_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    without(monkeypatch, number, "flock")
    pid = hold(tmp_path / "lock")
    with pytest.raises(Busy, match=f"process {pid}"), alone(tmp_path / "lock", "writing x", waits=False):
        pass
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    with alone(tmp_path / "lock", "writing x", waits=False):
        pass


@pytest.mark.parametrize("number", NONE)
@pytest.mark.parametrize("waits", [True, False])
def test_without_any_lock_the_filesystem_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, waits: bool
) -> None:
    without(monkeypatch, number, "flock", "lockf")
    name = errno.errorcode[number]
    sentence = rf"{tmp_path}/lock: the filesystem here \(.* on /.*\) has no file locks \({name}\), and"
    with pytest.raises(Stop, match=sentence), alone(tmp_path / "lock", "writing x", waits=waits):
        pass


def test_it_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, errno.ENOSYS, "flock", "lockf")
    with pytest.raises(Stop, match="has no file locks"):
        check_free(tmp_path / "to" / "come" / "lock", "writing x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_nobody_from_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with alone(tmp_path / "lock", "writing x", waits=False):
        pass
