"""action.yml: its step runs `verify` as a job would, and no input is read as a command."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from running import PROOFCARD, ROOT

GOLDEN = ROOT / "tests" / "golden" / "manifest-1"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def step(cwd: Path, **inputs: str) -> tuple[int, dict[str, str], str]:
    """The step `verify` in bash: exit status, outputs, and what it printed."""
    (verify,) = (each for each in ACTION["runs"]["steps"] if each.get("id") == "verify")
    given = {name: said.get("default", "") for name, said in ACTION["inputs"].items()} | inputs
    environment = {
        name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in verify["env"].items()
    }
    assert "${{" not in verify["run"]
    files = {"GITHUB_OUTPUT": str(cwd / "output"), "GITHUB_STEP_SUMMARY": str(cwd / "summary")}
    done = subprocess.run(
        ["bash", "-c", verify["run"]], cwd=cwd, capture_output=True, text=True, check=False,
        env=os.environ | environment | files | {"PROOFCARD": str(PROOFCARD)},
    )  # fmt: skip
    output = (cwd / "output").read_text().splitlines()
    return done.returncode, dict(line.split("=", 1) for line in output), done.stdout + done.stderr


def test_a_checkpoint_is_verified(tmp_path: Path) -> None:
    status, outputs, said = step(
        tmp_path, checkpoint=str(GOLDEN / "checkpoint"), source=str(GOLDEN / "source")
    )
    assert (status, outputs["result"]) == (0, "verified"), said
    for name in ("report", "junit", "sarif"):
        assert (tmp_path / outputs[name]).is_file()
    assert "weights" in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("checkpoint", ["none'; touch evil; '", "$(touch evil)", "a b\\"])
def test_no_input_is_a_command(tmp_path: Path, checkpoint: str) -> None:
    status, outputs, said = step(tmp_path, checkpoint=checkpoint)
    assert (status, outputs["result"]) == (2, "not checked"), said
    assert not (tmp_path / "evil").exists()
    assert "does not exist" in said
