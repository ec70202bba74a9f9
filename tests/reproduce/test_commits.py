"""The commit of a recorded program, found in a history made for the test."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from proofcard import deciding
from proofcard.reproduce import commits

MODULES = ("a", "b")


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commits, the oldest first: code 1 and lock 1, code 2, code 3 and lock 2."""
    package = tmp_path / "pipeline" / "proofcard"
    package.mkdir(parents=True)
    monkeypatch.setattr(commits, "bundled", lambda name: tmp_path / name)
    monkeypatch.setattr(deciding, "of_quantize", lambda engine: MODULES)

    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        said = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True
        )
        return said.stdout.strip()

    git("init", "-q")
    made = []
    for code, lock in ((1, 1), (2, 1), (3, 2)):
        (package / "a.py").write_text(f"A = {code}\n")
        (package / "b.py").write_text("B = 0\n")
        (tmp_path / "uv.lock").write_text(f"lock {lock}")
        git("add", "-A")
        git("commit", "-qm", "x")
        made.append(git("rev-parse", "HEAD"))
    return made


def digest(folder: Path, code: int) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "a.py").write_text(f"A = {code}\n")
    (folder / "b.py").write_text("B = 0\n")
    return deciding.digest(MODULES, folder)


def test_code_is_found_by_its_digest(history: list[str], tmp_path: Path) -> None:
    for code, commit in enumerate(history, 1):
        assert commits.with_code(digest(tmp_path / "other", code), "layerwise") == commit
    assert commits.with_code("0" * 64, "layerwise") is None


def test_a_lock_is_found_in_the_last_commit_that_has_it(history: list[str]) -> None:
    one, two = (hashlib.sha256(f"lock {n}".encode()).hexdigest() for n in (1, 2))
    assert commits.with_lock(one) == history[1]
    assert commits.with_lock(two) == history[2]
    assert commits.with_lock("0" * 64) is None


def test_without_a_history_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "bundled", lambda name: tmp_path / name)
    assert commits.with_lock("0" * 64) is None
    assert commits.with_code("0" * 64, "layerwise") is None
