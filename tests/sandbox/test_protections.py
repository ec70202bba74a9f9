"""What a machine protects is tried; where it is too little, code runs only if that was asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import ROOT

MACHINE = Path(__file__).with_name("machine.py")
SYSTEM = Path("/usr/bin/python3")


def found(*lacking: str, python: Path = Path(sys.executable), **process: Any) -> dict[str, Any]:
    """What the sandbox says on a machine that lacks something."""
    said = subprocess.run(
        [python, "-B", MACHINE, *lacking], capture_output=True, text=True, check=False, **process
    )
    assert said.returncode == 0, said.stderr
    told: dict[str, Any] = json.loads(said.stdout)
    return told


@pytest.mark.parametrize("lacking", [(), ("namespaces",)])
def test_neither_root_nor_namespaces_are_needed(lacking: tuple[str, ...]) -> None:
    here = found(*lacking)
    assert here["possible"] == [] and "usage" not in here
    assert here["ran"] == here["weak"] == "hello\n"
    assert here["sentence"] == (
        "generated code runs: no network, no files but Python's own, no folders, nothing written, no new "
        "processes, no signals to other processes, no privileges; 5 s of CPU, 1 GiB"
    )


@pytest.mark.skipif(os.getuid() != 0 or not SYSTEM.exists(), reason="needs root, to be somebody else")
def test_an_ordinary_user_has_all_of_it() -> None:
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    environment = {"PYTHONPATH": f"{ROOT / 'pipeline'}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    here = found(
        "namespaces", python=SYSTEM, user=65534, group=65534, extra_groups=[], env=environment, cwd="/"
    )
    assert here["possible"] == [] and here["ran"] == "hello\n"


@pytest.mark.parametrize(
    ("lacking", "could", "why"),
    [
        ("landlock", "read files, list folders", "the kernel has no Landlock"),
        ("seccomp", "", "the kernel or a container refuses seccomp"),
        ("libseccomp", "", "libseccomp is not installed"),
        ("capabilities", "use calls", "the kernel or a container refuses no capabilities"),
    ],
)
def test_too_few_protections_are_named_and_code_is_not_run(lacking: str, could: str, why: str) -> None:
    here = found(lacking)
    assert "this machine's sandbox cannot contain generated code: it could " in here["usage"]
    assert f"could {could}" in here["usage"] and why in here["usage"]
    assert here["usage"].endswith("or run it anyway with truth.sandbox=weak")
    part = {"libseccomp": "seccomp", "capabilities": "capabilities"}.get(lacking, lacking)
    assert here["stop"] == f"generated code was not run: this machine has no {part}"
    assert "a weak sandbox: it could" in here["sentence"]
    assert here["weak"] == "hello\n"
