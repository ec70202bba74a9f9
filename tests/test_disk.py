"""A file is the old one or the new one, whole; room is asked for where a folder is yet to come."""

import shutil
from pathlib import Path

import pytest

from proofcard.disk import free_at, write_whole


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
