import sys
from pathlib import Path

import pytest

from proofcard import environments
from proofcard.errors import Usage


def installed(folder: Path, *programs: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    for name in programs:
        (folder / "bin" / name).touch()
    return folder


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout without environments, asked from an environment without extras."""
    monkeypatch.setattr(environments, "bundled", lambda name: tmp_path / "checkout" / name)
    monkeypatch.setattr(sys, "prefix", str(installed(tmp_path / "own", "python")))
    for extra in ("SERVE", "VLLM", "BENCH"):
        monkeypatch.delenv(f"PROOFCARD_ENV_{extra}", raising=False)
    return tmp_path / "checkout"


def test_what_is_not_installed_is_said_with_the_command_that_installs_it(checkout):
    with pytest.raises(Usage, match="aiperf is not installed: run `make setup-bench`"):
        environments.program("bench", "aiperf")


def test_the_environment_of_the_checkout(checkout):
    installed(checkout / ".venv-bench", "aiperf", "python")
    assert environments.program("bench", "python") == checkout / ".venv-bench/bin/python"


def test_an_image_made_for_the_extra_has_it_in_its_own_environment(checkout, tmp_path):
    installed(checkout / ".venv-serve", "sglang", "python")
    (tmp_path / "own/bin/sglang").touch()
    assert environments.program("serve", "python") == tmp_path / "own/bin/python"


def test_a_variable_names_the_environment(checkout, tmp_path, monkeypatch):
    installed(checkout / ".venv-vllm", "vllm", "python")
    monkeypatch.setenv("PROOFCARD_ENV_VLLM", str(installed(tmp_path / "named", "vllm")))
    assert environments.program("vllm", "vllm") == tmp_path / "named/bin/vllm"
    with pytest.raises(Usage, match=r"PROOFCARD_ENV_VLLM=.*/named has no bin/python"):
        environments.program("vllm", "python")
