"""Lock, flake, Dockerfile, compose.yaml, docs and manifest name the same versions; a wrong one is found."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ROOT

from proofcard.fingerprint import lock_digest, packages

sys.path.insert(0, str(ROOT / "scripts"))
import pins


def test_every_version_that_a_file_names_is_the_locked_one() -> None:
    assert pins.disagreements() == []


def test_the_files_that_must_agree_are_looked_at() -> None:
    looked = {path.relative_to(ROOT).as_posix() for path in pins.texts()}
    expected = {
        "README.md",
        "pyproject.toml",
        "docs/patches.md",
        "conf/model/minimax_m2_7.yaml",
        "Dockerfile",
    }
    assert expected <= looked
    if (ROOT / "flake.nix").exists():
        assert {"flake.nix", *(f"nix/{path.name}" for path in (ROOT / "nix").glob("*.nix"))} <= looked
    found = {mention.package for mention in pins.mentions()}
    assert {"nvidia-modelopt", "torch", "transformers", "sglang", "vllm", "mlflow", "aiperf", "uv"} <= found
    assert {name.partition(":")[0] for _, name, _ in pins.images()} == {
        "docker.io/nvidia/cuda",
        "docker.io/library/postgres",
        "ghcr.io/astral-sh/uv",
    }


def test_a_manifest_names_the_locked_packages_and_the_lock_itself() -> None:
    locked = pins.locked()
    for name, version in packages(*(name for name in pins.DECIDING if name != "nvidia-modelopt")).items():
        assert {version} <= locked[name]
    said = subprocess.run(["sha256sum", ROOT / "uv.lock"], capture_output=True, text=True, check=True)
    assert lock_digest() == said.stdout.split()[0]


def test_python_in_the_images_is_one_that_the_project_allows() -> None:
    versions = set(re.findall(r"^ARG PYTHON_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert len(versions) == 1
    assert versions.pop().startswith(("3.11.", "3.12."))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the check reads, in a repository of its own."""
    folder = tmp_path_factory.mktemp("copy")
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True)
    for name in tracked.stdout.split():
        if not name.startswith(("demo/", "pipeline/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pins, "ROOT", folder)
        assert pins.disagreements() == []
    return folder


@pytest.fixture
def copy(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, to be spoilt."""
    monkeypatch.setattr(pins, "ROOT", elsewhere)
    yield elsewhere
    subprocess.run(["git", "-C", elsewhere, "checkout", "--quiet", "."], check=True)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "README.md",
            "ModelOpt 0.43.0",
            "ModelOpt 0.44.0",
            "says nvidia-modelopt 0.44.0, uv.lock pins 0.43.0",
        ),
        ("pyproject.toml", "torch==2.11.0", "torch==2.12.0", "says torch 2.12.0, uv.lock pins 2.11.0"),
        ("Dockerfile", "uv:0.13.0", "uv:0.12.0", "says uv 0.12.0"),
        ("Dockerfile", "cuda:13.0.2", "cuda:12.8.1", "torch is locked with CUDA 13.0.2"),
    ],
)
def test_a_version_of_its_own_is_found(copy: Path, file: str, old: str, new: str, said: str) -> None:
    path = copy / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    found = pins.disagreements()
    assert found
    assert all(said in line for line in found)


def test_a_newer_lock_is_carried_into_the_files_and_outdates_the_golden_digests(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = copy / "uv.lock"
    newer = lock.read_text().replace(
        'name = "torch"\nversion = "2.11.0"', 'name = "torch"\nversion = "2.11.1"'
    )
    assert newer != lock.read_text()
    before = pins.locked()
    lock.write_text(newer)
    assert any("pyproject.toml" in line for line in pins.disagreements())
    pins._rename("torch", before["torch"], pins.locked()["torch"])
    assert "pyproject.toml" in capsys.readouterr().out
    assert '"torch==2.11.1"' in (copy / "pyproject.toml").read_text()
    [stale] = pins.disagreements()
    assert stale == pins.stale_goldens()[0]
    assert re.fullmatch(r"tests/quantize/golden/\S+ was made with torch 2.11.0, uv.lock pins 2.11.1", stale)


def test_the_check_ends_with_a_status_that_stops_a_build(copy: Path) -> None:
    (copy / "README.md").write_text("torch 1.0.0\n")
    script = copy / "scripts" / "pins.py"
    said = subprocess.run([sys.executable, script, "check"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (1, "README.md:1 says torch 1.0.0, uv.lock pins 2.11.0\n")


def test_every_golden_says_what_it_was_made_with() -> None:
    for path in (ROOT / "tests").rglob("golden/*.json"):
        assert set(json.loads(path.read_text())["origin"]["packages"]) <= set(pins.DECIDING)
