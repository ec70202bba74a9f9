"""A file is the old one or the new one, whole; room is asked for where a folder is yet to come."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from disks import needs_root, small_disk

from proofcard.disk import check_writable, free_at, write_whole
from proofcard.errors import Stop


def test_room_is_that_of_the_disk_on_which_a_folder_will_stand(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/shm")
    assert free_at(tmp_path / "not" / "yet") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert free_at(tmp_path / "link" / "not" / "yet") == pytest.approx(
        shutil.disk_usage("/dev/shm").free, rel=0.05
    )


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "said.json"
    write_whole(path, "old")
    write_whole(path, "größer")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "a half of it\ud800")
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["", "to/come", "link/to/come"])
def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path, folder: str) -> None:
    (tmp_path / "link").symlink_to(".")
    check_writable(tmp_path / folder)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Stop, match=rf"{tmp_path}/file is a file, but .*/file/below needs a folder there"):
        check_writable(tmp_path / "file" / "below")


@needs_root
def test_a_read_only_filesystem_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(Stop, match=f"{disk}: this filesystem is read-only: choose another place for"):
            check_writable(disk / "to" / "come")


@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_wherever_the_disk_fails_the_file_is_named_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    path = tmp_path / "said.json"
    write_whole(path, "old")

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(OSError) as error:
        where = {"write": (Path, "write_text"), "fsync": (os, "fsync"), "rename": (Path, "rename")}[failing]
        patch.setattr(*where, fails)
        write_whole(path, "new")
    assert str(error.value.filename).startswith(str(tmp_path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
