"""`verify` needs nothing that only Linux has, and no compiler: the same report without them."""

import os
import subprocess
import sys
from pathlib import Path

from hub import Hub
from running import ROOT
from verify.making import Verified

GOLDEN = ROOT / "tests" / "golden" / "manifest-1"
ELSEWHERE = ROOT / "tests" / "verify" / "elsewhere.py"


def verify(cwd: Path, *words: str, endpoint: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ELSEWHERE, "verify", *words], cwd=cwd, capture_output=True, text=True, check=False,
        env=os.environ | ({"HF_ENDPOINT": endpoint} if endpoint else {}),
    )  # fmt: skip


def test_nothing_of_linux_s_own_is_needed(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    local = Verified(checkpoint, source)
    done = verify(tmp_path, f"checkpoint={checkpoint}", f"source={source}", "report=elsewhere.json")
    assert (done.returncode, done.stdout.splitlines()[-1].split()[0]) == (0, "verified"), done.stderr
    here, there = local.path.read_text(), (tmp_path / "elsewhere.json").read_text()
    assert there == here.replace('"kernels": "compiled"', '"kernels": "numpy"') != here


def test_nor_for_the_hub(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        sides = {"checkpoint": checkpoint, "source": source}
        words = [f"{side}=hf://org/{side}@{hub.add(f'org/{side}', at)}" for side, at in sides.items()]
        done = verify(tmp_path, *words, endpoint=hub.endpoint)
    assert (done.returncode, done.stdout.splitlines()[-1].split()[0]) == (0, "verified"), done.stderr
