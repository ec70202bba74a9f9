"""A process for each series looks at ModelOpt, once per session; copies of the installed one to damage."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proofcard.bundle import bundled
from proofcard.toolchain import installed, materialise

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every series, materialised."""
    folder = tmp_path_factory.mktemp("toolchains")
    for series in ("as_published", "fixed"):
        materialise(series, folder)
    return folder


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a Python process that can import the pipeline and has no network."""

    def popen(*arguments: str | Path) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, *arguments]
        out = subprocess.PIPE
        return subprocess.Popen(command, env=environment, text=True, stdout=out, stderr=subprocess.STDOUT)

    return popen


@pytest.fixture(scope="session")
def seen(start: Start, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `probes.py` saw, by series."""
    out = tmp_path_factory.mktemp("seen")
    every = ("none", "as_published", "fixed")
    process = start(HERE / "probes.py", root, out, *every)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return {series: json.loads((out / series).read_text()) for series in every}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the installed package that a test may damage."""
    found = installed.find("nvidia-modelopt")
    for name in (*found.files, *found.info):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.site / name, tmp_path / "site" / name)
    record = next(found.site.glob("nvidia_modelopt-*.dist-info")) / "RECORD"
    shutil.copyfile(record, tmp_path / "site" / record.parent.name / "RECORD")
    return tmp_path / "site"


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """A copy of the patches that a test may damage."""
    return Path(shutil.copytree(bundled("patches"), tmp_path / "patches"))
