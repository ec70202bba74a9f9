"""`from proofcard import verify`: the document; nothing printed, written, or raised for a difference."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import proofcard
from proofcard import documents, verify
from proofcard.errors import Usage


def test_it_returns_the_document_and_prints_and_writes_nothing(
    checkpoint: Path,
    source: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    report = verify(checkpoint, source)
    assert isinstance(report, documents.Verification)
    assert report.result == "verified"
    assert [name for name, level in report.levels.items() if level.result == "holds"] == [
        "integrity", "structure", "weights",
    ]  # fmt: skip
    assert verify(str(checkpoint)).levels["weights"].result == "not requested"
    assert verify(checkpoint, levels=["integrity"]).levels["structure"].result == "not requested"
    assert capfd.readouterr() == ("", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_difference_is_a_result(checkpoint: Path, source: Path) -> None:
    shard = next(checkpoint.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    report = verify(checkpoint, source)
    assert report.result == "differs"
    assert report.levels["weights"].differences.listed[0].tensor


def test_inputs_that_are_not_there_are_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    for words, sentence in (
        ((tmp_path / "gone",), "checkpoint=.*gone does not exist"),
        ((checkpoint, "/nonexistent"), "source=/nonexistent does not exist"),
        ((tmp_path / "file",), "checkpoint=.*file is a file"),
    ):
        (tmp_path / "file").touch()
        with pytest.raises(Usage, match=sentence):
            verify(*words)
    with pytest.raises(Usage, match=r"levels=.*choose from integrity"):
        verify(checkpoint, levels=["everything"])


def test_it_is_there_whatever_was_imported_first() -> None:
    for first in ("import proofcard.verify.report", "import proofcard", "from proofcard.verify import run"):
        program = f"{first}\nfrom proofcard import verify\nassert callable(verify)\nimport sys\n"
        program += "assert not {'torch', 'mlflow', 'modelopt'} & sys.modules.keys()"
        subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
    assert "verify" in proofcard.__all__
