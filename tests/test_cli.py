"""The command line as a person meets it: quick help, plain sentences, exit statuses."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = ("analyse", "benchmark", "compare", "fetch", "plan", "quantize", "serve", "verify")


def call(command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / command
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick_and_has_three_examples(command: str) -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        said = call(command, "--help")
        times.append(time.perf_counter() - started)
    assert min(times) < 1.0
    assert said.returncode == 0
    assert said.stdout.startswith(f"{command}: ")
    examples = [line for line in said.stdout.splitlines() if line.startswith(f"  {command}")]
    assert len(examples) == 3
    assert "Exit status" in said.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        f"import sys; sys.argv = ['{command}', '--help']; from pipeline.cli import {command}; {command}(); "
        "print(sorted({m.split('.')[0] for m in sys.modules} "
        "& {'torch', 'mlflow', 'hydra', 'numpy', 'rich'}))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("quantize", ["kv_cache=fp9"], "quantize: kv_cache=fp9 does not exist: did you mean 'fp8'?"),
        ("quantize", ["model.path=/nowhere"], "quantize: /nowhere is no checkpoint folder"),
        ("quantize", ["recipe=minimax_m2_7_nvfp4"], "quantize: model.revision is not set"),
        ("verify", [], "verify: checkpoint is needed: give checkpoint="),
        ("verify", ["checkpont=x"], "verify: unknown key 'checkpont': did you mean 'checkpoint'?"),
    ],
)
def test_a_bad_request_starts_nothing(
    tmp_path: Path, command: str, arguments: list[str], sentence: str
) -> None:
    said = call(command, *arguments, cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_default_recipe_says_what_it_is_and_names_the_real_one(tmp_path: Path) -> None:
    said = call("quantize", "model.path=/nowhere", cwd=tmp_path)
    first = said.stderr.splitlines()[0]
    assert first.startswith("recipe=demo:")
    assert "recipe=minimax_m2_7_nvfp4" in first
