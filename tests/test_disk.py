"""Room is asked for where a folder is yet to come."""

import shutil
from pathlib import Path

import pytest

from pipeline.disk import free_at


def test_room_is_that_of_the_disk_on_which_a_folder_will_stand(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/shm")
    assert free_at(tmp_path / "not" / "yet") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert free_at(tmp_path / "link" / "not" / "yet") == pytest.approx(
        shutil.disk_usage("/dev/shm").free, rel=0.05
    )
