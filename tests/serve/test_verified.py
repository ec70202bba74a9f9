"""Before a start: what does not verify is not served, unless somebody says so."""

import shutil
from pathlib import Path

import pytest
from running import ROOT

from proofcard.config import ServeConfig, compose
from proofcard.errors import Usage
from proofcard.serve import command, verified

GOLDEN = ROOT / "tests" / "golden" / "manifest-1" / "checkpoint"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "checkpoint"))


def harm(checkpoint: Path) -> None:
    path = sorted(checkpoint.glob("*.safetensors"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_sealed_one_is_held_to_its_seal(checkpoint: Path) -> None:
    assert verified.require(checkpoint).result == "verified"
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["checkpoint"]  # nothing is left
    harm(checkpoint)
    with pytest.raises(Usage, match=r"(?s)does not verify: integrity differs: .*verify=off"):
        verified.require(checkpoint)


def test_an_unsealed_one_by_its_structure(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()
    assert verified.require(checkpoint).result == "verified"
    (checkpoint / "hf_quant_config.json").write_text("{}")
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace('"nvfp4"', '"gptq"').replace("NVFP4", "W4A16_GPTQ"))
    with pytest.raises(Usage, match="does not verify: structure"):
        verified.require(checkpoint)


def test_nothing_is_started_and_off_means_off(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    harm(checkpoint)

    class Past(Exception):
        """The command has come to its start."""

    def described(*_: object) -> None:
        raise Past

    monkeypatch.setattr("proofcard.tracking.subject_of", described)
    monkeypatch.setattr(command, "prepare", lambda *_: type("Prepared", (), {"checkpoint": checkpoint}))
    words = [f"checkpoint={checkpoint}", "tracking=off"]
    assert compose(ServeConfig, "serve", words).verify == "on"
    with pytest.raises(Usage, match="does not verify"):
        command.run(words)
    with pytest.raises(Past):
        command.run([*words, "verify=off"])
