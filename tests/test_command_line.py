"""What a user meant: bare names, dashes, inputs that are missing or something else; known before any work."""

import subprocess
from pathlib import Path

import pytest
import yaml
from running import PROOFCARD

from proofcard.command_line import understood
from proofcard.config.printing import _SCHEMAS, show
from proofcard.errors import Usage
from proofcard.help import SUMMARIES


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a folder without one, and a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "runs/checkpoints/demo"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words", "becomes"),
    [
        ("quantize", ["demo", "seed=1"], ["recipe=demo", "seed=1"]),
        ("quantize", ["-m", "demo", "seed=1,2"], ["-m", "recipe=demo", "seed=1,2"]),
        ("fetch", ["minimax_m2_7_nvfp4"], ["recipe=minimax_m2_7_nvfp4"]),
        ("verify", ["model"], ["checkpoint=model"]),
        ("verify", ["./model", "source=model"], ["checkpoint=./model", "source=model"]),
        ("verify", ["hf://a/b@c"], ["checkpoint=hf://a/b@c"]),
        ("serve", ["model", "stay=false"], ["checkpoint=model", "stay=false"]),
        ("plan", ["demo", "local"], ["demo", "local"]),
        ("quantize", ["~tracking"], ["~tracking"]),
    ],
)
def test_a_bare_word_is_taken_where_it_can_mean_one_thing(
    place: Path, command: str, words: list[str], becomes: list[str]
) -> None:
    assert understood(command, words) == becomes


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("quantize", ["demoo"], "'demoo' is neither a recipe nor key=value: did you mean 'demo'?"),
        ("quantize", ["x"], "'x' is neither a recipe nor key=value: choose one of demo, "),
        ("quantize", ["./model"], "./model is a folder: write checkpoint=… or model.path=… in front"),
        ("quantize", ["recipe=demo", "demo"], "'demo' has no key: write key=value, such as recipe=demo"),
        ("verify", ["demo"], "'demo' is neither a folder nor key=value: write checkpoint=runs/check"),
        ("verify", ["x"], "'x' is neither a folder nor key=value: write checkpoint=DIR"),
        ("verify", ["model", "model"], "'model' has no key: write key=value"),
        ("quantize", ["--recipe", "demo"], "--recipe demo is not an option: settings have no dashes: writ"),
        ("quantize", ["--kv-cache=none"], "--kv-cache=none is not an option: settings have no dashes:"),
        ("quantize", ["-x"], "-x is not an option: settings have no dashes: write x=VALUE"),
        ("verify", ["-m", "model"], "-m: several configurations are for benchmark and quantize alone"),
        ("verify", ["checkpoint=gone"], "checkpoint=gone does not exist"),
        ("verify", ["gone/model"], "checkpoint=gone/model does not exist"),
        ("verify", ["model/config.json/x"], "checkpoint=model/config.json/x does not exist"),
        ("verify", ["file"], "checkpoint=file is a file: give a folder"),
        ("verify", ["empty"], "checkpoint=empty is a folder without a model: none of its files"),
        ("verify", ["model", "source=/nonexistent"], "source=/nonexistent does not exist"),
        ("verify", ["model", "source=file"], "source=file is a file: give a folder"),
        ("verify", ["model", "source=empty"], "source=empty is a folder without a model"),
        ("verify", ["model", 'source="a b"'], "source=a b does not exist"),
        ("verify", ["model", "samples=file"], "samples=file is a file: give a folder"),
        ("verify", ["model", "texts=empty"], "texts=empty is a folder: give a file"),
        ("verify", ["loop/x"], "checkpoint: loop/x is a link that leads back to itself"),
        ("verify", ["checkpoint=" + 300 * "x"], f"checkpoint: {300 * 'x'}"[:150]),
        ("compare", ["a=model", "b=gone"], "b=gone does not exist"),
        ("quantize", ["model.path=gone"], "model.path=gone does not exist"),
        ("tasks", ["candidate.checkpoint=empty"], "candidate.checkpoint=empty is a folder without a model"),
    ],
)  # fmt: skip
def test_anything_else_is_one_sentence(place: Path, command: str, words: list[str], sentence: str) -> None:
    with pytest.raises(Usage) as stop:
        understood(command, words)
    assert str(stop.value).startswith(sentence)
    assert "\n" not in str(stop.value)


def test_every_command_has_a_configuration_to_print() -> None:
    assert _SCHEMAS.keys() <= SUMMARIES.keys()


@pytest.mark.parametrize("command", sorted(_SCHEMAS))
def test_cfg_prints_what_a_command_composes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(command, "job", []) == 0
    assert yaml.safe_load(capsys.readouterr().out)["work_dir"] == "runs"


def test_version_and_cfg_are_options_of_every_command(tmp_path: Path) -> None:
    words = [PROOFCARD, "quantize"]
    version = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert version.stdout.startswith("proofcard ")
    for asked, status, says in (("job", 0, "name: demo"), ("all", 2, "write --cfg job")):
        printed = subprocess.run(
            [*words, "--cfg", asked, "demo"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert printed.returncode == status
        assert says in printed.stdout + printed.stderr
    assert list(tmp_path.iterdir()) == []
