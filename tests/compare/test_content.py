"""What a folder holds now: read, not believed."""

import shutil
from pathlib import Path

import pytest
from running import ROOT

from proofcard import manifest
from proofcard.compare.content import read
from proofcard.digest import sha256_file
from proofcard.errors import Stop

GOLDEN = ROOT / "tests" / "golden" / "manifest-1" / "checkpoint"


def test_every_digest_is_the_sealed_one(tmp_path: Path) -> None:
    sealed, found = manifest.read(GOLDEN), read(GOLDEN)
    assert {name: found.file_sha256[name] for name in sealed.outputs.files} == {
        name: file.sha256 for name, file in sealed.outputs.files.items()
    }
    assert found.tensor_sha256 == {name: tensor.sha256 for name, tensor in sealed.outputs.tensors.items()}
    assert found.altered(sealed) == []
    assert manifest.NAME not in found.others()


def test_a_changed_and_a_missing_file_are_altered_and_hidden_ones_left_out(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(GOLDEN, tmp_path / "copy"))
    sealed = manifest.read(copy)
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    (copy / ".hidden").write_text("x")
    found = read(copy)
    assert found.altered(sealed) == ["config.json"]
    assert ".hidden" not in found.file_sha256
    assert found.others()["config.json"] == sha256_file(copy / "config.json")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        read(tmp_path)
