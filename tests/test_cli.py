"""The command line as a person meets it: quick help, plain sentences, exit statuses."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import running
from running import PROOFCARD

from proofcard import __version__
from proofcard.cli import _MODULES
from proofcard.errors import Usage
from proofcard.extras import require
from proofcard.help import SUMMARIES, TEXTS, overview

COMMANDS = tuple(SUMMARIES)


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROOFCARD, *words], capture_output=True, text=True, check=False)


def test_the_help_fits_a_terminal_and_lists_every_command() -> None:
    assert SUMMARIES.keys() == TEXTS.keys() == _MODULES.keys()
    for text in (overview(), *TEXTS.values()):
        assert text.isascii()
        assert max(map(len, text.splitlines())) <= 80
    for words in ((), ("--help",), ("-h",)):
        said = call(*words)
        assert (said.returncode, said.stdout, said.stderr) == (0, overview(), "")


def test_the_version_is_the_installed_one() -> None:
    assert call("--version").stdout == f"proofcard {__version__}\n"
    assert [int(part) for part in __version__.split(".")]


@pytest.mark.parametrize(
    ("word", "hint"), [("quantise", "did you mean 'quantize'?"), ("dance", "choose from agentic, analyse,")]
)
def test_an_unknown_command_names_the_nearest_one(word: str, hint: str) -> None:
    said = call(word, "recipe=demo")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"proofcard: unknown command {word!r}: {hint}")


@pytest.mark.parametrize(
    ("need", "sentence"),
    [
        (
            "quantize",
            "it needs datasets, which is not installed: pip install 'proofcard[quantize]', or uv sync",
        ),
        (
            "tracking",
            "it needs mlflow, which is not installed: pip install 'proofcard[tracking]', or uv sync",
        ),
        (
            "serve-cpu",
            "it needs fastapi, which is not installed: pip install 'proofcard[quantize,serve-cpu]'",
        ),
    ],
)
def test_a_missing_extra_is_named_before_any_work(
    monkeypatch: pytest.MonkeyPatch, need: str, sentence: str
) -> None:
    missing = ("datasets", "mlflow", "fastapi")
    monkeypatch.setattr("proofcard.extras.find_spec", lambda name: None if name in missing else object())
    with pytest.raises(Usage) as stop:
        require("it", need)
    assert str(stop.value).startswith(sentence)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick_and_has_three_examples(command: str) -> None:
    for _ in range(3):
        started = time.perf_counter()
        said = call(command, "--help")
        took = time.perf_counter() - started
        if took < 1.0:
            break
    assert took < 1.0
    assert said.returncode == 0
    assert said.stdout.startswith(f"proofcard {command}: {SUMMARIES[command]}")
    examples = [line for line in said.stdout.splitlines() if line.startswith(f"  proofcard {command}")]
    assert len(examples) == 3
    assert "Exit status" in said.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        f"import sys; sys.argv[1:] = ['{command}', '--help']; from proofcard.cli import main; main(); "
        "print(sorted({m.split('.')[0] for m in sys.modules} "
        "& {'torch', 'mlflow', 'hydra', 'numpy', 'rich'}))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("quantize", ["kv_cache=fp9"], "quantize: kv_cache=fp9 does not exist: did you mean 'fp8'?"),
        ("quantize", ["model.path=/nowhere"], "quantize: model.path=/nowhere does not exist"),
        ("quantize", ["recipe=minimax_m2_7_nvfp4"], "quantize: model.revision is not set"),
        ("verify", [], "verify: checkpoint is needed: give checkpoint="),
        ("verify", ["checkpont=x"], "verify: unknown key 'checkpont': did you mean 'checkpoint'?"),
    ],
)
def test_a_bad_request_starts_nothing(
    tmp_path: Path, command: str, arguments: list[str], sentence: str
) -> None:
    said = running.command(command, *arguments, cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_default_recipe_says_what_it_is_and_names_the_real_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    said = running.command("quantize", f"model.path={tmp_path}", cwd=tmp_path)
    first = said.stderr.splitlines()[0]
    assert first.startswith("recipe=demo:")
    assert "recipe=minimax_m2_7_nvfp4" in first
