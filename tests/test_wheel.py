"""The wheel with its base dependencies alone: `verify` works, other commands name the extra they need."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from running import ROOT
from sign import making

from proofcard.card import command

GOLDEN = ROOT / "tests" / "golden" / "manifest-1"


@pytest.fixture(scope="module")
def proofcard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of an environment into which the wheel was installed as uv.lock pins it."""
    folder = tmp_path_factory.mktemp("wheel") / "environment"
    words = [
        "sync",
        "--quiet",
        "--frozen",
        "--no-editable",
        "--refresh-package",
        "proofcard",
        "--project",
        ROOT,
    ]
    subprocess.run(
        [ROOT / "scripts" / "uv", *words],
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder)}, check=True,
    )  # fmt: skip
    return folder / "bin" / "proofcard"


def run(program: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody else compiles what this environment imports
    return subprocess.run(
        [program, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_it_verifies_every_level(proofcard: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()  # a folder of the user's
    words = (f"checkpoint={GOLDEN / 'checkpoint'}", f"source={GOLDEN / 'source'}", "report=report.json")
    verified = run(proofcard, "verify", *words, cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.splitlines()[-1].startswith("verified (")
    site = next(proofcard.parent.parent.glob("lib/python3*/site-packages"))
    assert json.loads((tmp_path / "report.json").read_text())["kernels"] == "numpy"
    assert not (site / "numba").exists()
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert size < 200e6, f"{size / 1e6:.0f} MB"  # 110 when this was written, the first cached bytecode too
    assert not (site / "torch").exists() and not (site / "mlflow").exists()


def test_a_stranger_checks_a_signature_with_the_public_key_alone(proofcard: Path, tmp_path: Path) -> None:
    making.signed(tmp_path)
    (tmp_path / "stranger").mkdir()
    words = (f"checkpoint={tmp_path / 'checkpoint'}", f"public_key={tmp_path / 'key.pem.pub'}")
    verified = run(proofcard, "verify", *words, "report=report.json", cwd=tmp_path / "stranger")
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "verified"), verified.stderr
    assert "3 statements" in verified.stdout
    command.run([words[0], "license=apache-2.0", "tracking=off", f"work_dir={tmp_path / 'runs'}"])
    agrees = run(proofcard, "card", words[0], "check=true", cwd=tmp_path / "stranger")
    assert (agrees.returncode, agrees.stdout.splitlines()[-1]) == (0, "agrees"), agrees.stderr
    (tmp_path / "checkpoint/added.py").touch()
    assert run(proofcard, "verify", *words, "report=report.json", cwd=tmp_path / "stranger").returncode == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("quantize",), "quantize: this command needs torch, which is not installed: pip install"),
        (("plan", "recipe=demo"), "plan: this command needs torch, which is not installed"),
        (
            ("sign", f"checkpoint={GOLDEN / 'checkpoint'}", "key=y"),
            "sign: this command needs model_signing, which is not installed",
        ),
        (
            ("serve", f"checkpoint={GOLDEN / 'checkpoint'}"),
            "serve: this command needs regex, which is not installed",
        ),
        (
            ("compare", f"a={GOLDEN / 'checkpoint'}", f"b={GOLDEN / 'checkpoint'}", "report=out"),
            "compare: tracking in MLflow needs mlflow, which is not installed: pip install 'proofcard[",
        ),
    ],
)  # fmt: skip
def test_a_missing_extra_is_one_sentence(
    proofcard: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    refused = run(proofcard, *words, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(sentence)
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
