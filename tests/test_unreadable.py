"""Folders and shards that may not be read are one sentence, whatever command meets them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from disks import needs_root
from running import PROOFCARD
from verify.making import make_checkpoint, make_source

NOBODY = 65534


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`shard` and `folder` are checkpoints that nobody may read all of; `source` is whole."""
    folder = tmp_path_factory.mktemp("unreadable")
    source = make_source(folder / "source")
    sealed = make_checkpoint(folder / "whole", source)
    for name in ("shard", "folder"):
        shutil.copytree(sealed, folder / name)
    for above in (folder, *folder.parents):
        if above.owner() == "root" and above.is_relative_to("/tmp"):
            above.chmod(above.stat().st_mode | 0o005)
    folder.chmod(0o777)
    next((folder / "shard").glob("*.safetensors")).chmod(0)
    (folder / "folder").chmod(0)
    return folder


def as_nobody(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROOFCARD, *words, "tracking=off"], cwd=cwd, capture_output=True, text=True, check=False,
        user=NOBODY, group=NOBODY, extra_groups=[], env={"PATH": os.environ["PATH"], "HOME": str(cwd)},
    )  # fmt: skip


@needs_root
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["verify", "checkpoint=folder"], "verify: checkpoint: folder cannot be read: Permission denied"),
        (["compare", "a=shard", "b=whole"], "cannot be read: Permission denied"),
        (["analyse", "checkpoint=shard"], "cannot be read: Permission denied"),
        (["quantize", "model.path=shard"], "cannot be read: Permission denied"),
    ],
)
def test_what_may_not_be_read_is_one_sentence(place: Path, words: list[str], sentence: str) -> None:
    said = as_nobody(place, *words)
    if "No module named" in said.stderr or "Permission denied: '" in said.stderr:
        pytest.skip("NOT CHECKED HERE: another user may not read this environment")
    assert said.returncode == 2, said.stderr
    assert said.stderr.splitlines()[-1].endswith(sentence)
    assert "Traceback" not in said.stderr
