"""Fetching the demo's model from the stand-in of the hub, through our own commands."""

import os
import subprocess
from pathlib import Path

import forking
import running
from running import PROOFCARD, ROOT

MODEL = ROOT / "demo" / "model"
NAME = "demo/minimax"
FIRST, SECOND, LAST = (f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3))


def start(
    program: str, cwd: Path, commit: str | None, *overrides: str
) -> subprocess.Popen[str] | forking.Forked:
    """Forked where the environment is one of those for which there are servers; see tests/forking.py."""
    source = ["model.path=null", f"model.repository={NAME}", f"model.revision={commit or 'null'}"]
    if forking.alike(dict(os.environ)):
        return running.forked(program, *source, *overrides, cwd=cwd)
    return running.start([PROOFCARD, program, *source, *overrides], cwd)


def fetch(cwd: Path, commit: str | None, *overrides: str) -> tuple[int, str, str]:
    process = start("fetch", cwd, commit, "tracking=off", *overrides)
    said, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    assert process.returncode is not None
    return process.returncode, said, errors


def folder(cwd: Path, commit: str) -> Path:
    return cwd / "runs" / "sources" / f"demo--minimax@{commit[:12]}"


def small() -> dict[str, bytes]:
    """A repository that is quickly served: a real shard and two small files."""
    return {name: (MODEL / name).read_bytes() for name in ("config.json", "tokenizer.json", FIRST)}


def large() -> dict[str, bytes]:
    """A file longer than the pieces of 10 MiB in which the client writes down what comes."""
    return small() | {FIRST: bytes(range(256)) * 100_000}
