"""What a user sees and what a program reads: width, last line, the report's bytes and place."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from verify.making import Verified

from proofcard import command as program
from proofcard.config.schema import VerifyConfig
from proofcard.errors import Usage
from proofcard.verify import command, run


def harm(checkpoint: Path) -> None:
    for path in checkpoint.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    (checkpoint / ("extra" * 30)).write_text("")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_it_fits_the_screen(checkpoint: Path, source: Path, width: int) -> None:
    harm(checkpoint)
    for verified in (Verified(checkpoint, source, width=width), Verified(checkpoint, width=width)):
        lines = [line for line in verified.screen.splitlines() if not line.startswith("report: ")]
        assert max(map(len, lines)) <= width
        assert lines[-1] == "differs"
    assert "needs source=DIR" in verified.screen


def test_the_last_line_is_the_verdict(checkpoint: Path, source: Path) -> None:
    assert Verified(checkpoint, source).screen.splitlines()[-1].startswith("verified (")
    assert Verified(checkpoint).screen.splitlines()[-1] == "verified"
    assert Verified(checkpoint, levels=("weights",)).screen.splitlines()[-1] == "not checked"


def test_weights_without_a_source_say_what_they_need(checkpoint: Path) -> None:
    found = Verified(checkpoint, levels=("weights",))
    assert (found.status, found.level("weights")["unchecked"]["listed"]) == (2, ["it needs source=DIR"])
    assert Verified(checkpoint).level("weights")["not_requested"] == "needs source=DIR"


def test_the_report_is_the_same_wherever_and_whenever(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    harm(checkpoint)
    elsewhere = Path(shutil.copytree(checkpoint, tmp_path / "some" / "other" / "name"))
    origin = Path(shutil.copytree(source, tmp_path / "moved source"))
    first, second, third = (
        Verified(checkpoint, source), Verified(elsewhere, origin), Verified(checkpoint, source, width=200),
    )  # fmt: skip
    assert first.path.read_bytes() == second.path.read_bytes() == third.path.read_bytes()
    assert first.report["schema"] == "proofcard/verification/3"
    assert str(tmp_path).encode() not in first.path.read_bytes()


def test_long_lists_are_cut_and_counted(checkpoint: Path) -> None:
    for number in range(300):
        (checkpoint / f"extra{number}").write_text("")
    said = Verified(checkpoint, levels=("integrity",)).level("integrity")["differences"]
    assert (said["total"], said["extra"], len(said["listed"])) == (300, 300, 200)
    assert said["listed"][2]["file"] == "extra2"  # counted as people count


@pytest.mark.parametrize(
    "name", ["\x1b[2Jx", "a\nverified", "[red]x[red]", b"\xff\xfe".decode(errors="surrogateescape")]
)
def test_a_file_s_name_cannot_speak_for_us(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text("")
    found = Verified(checkpoint, levels=("integrity",))
    assert found.status == 1
    assert "\x1b" not in found.screen
    assert "verified" not in found.screen.splitlines()
    assert name.isprintable() == (name in found.screen)


def config(checkpoint: Path, **more: Any) -> VerifyConfig:
    return VerifyConfig(**({"checkpoint": checkpoint, "source": None, "levels": None, "report": None} | more))


def quiet() -> Console:
    return Console(quiet=True)


def test_the_report_never_stands_inside(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkpoint)
    for place in (checkpoint / "report.json", tmp_path / "link" / "report.json", checkpoint):
        with pytest.raises(Usage, match="inside"):
            run(config(checkpoint, report=place), quiet())
    with pytest.raises(Usage, match="cannot be written"):
        run(config(checkpoint, report=tmp_path / "nowhere" / "report.json"), quiet())
    assert run(config(checkpoint, report=tmp_path / "chosen.json"), quiet()) == 0
    assert json.loads((tmp_path / "chosen.json").read_text())["result"] == "verified"
    assert run(config(tmp_path / "link"), quiet()) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint", "chosen.json", "link", "link.verification.json",
    ]  # fmt: skip


def test_from_inside_the_folder(checkpoint: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(checkpoint)
    assert run(config(Path()), quiet()) == 0
    assert (checkpoint.parent / "checkpoint.verification.json").exists()
    assert run(config(checkpoint), quiet()) == 0  # the report did not become part of it


def test_nothing_to_check(checkpoint: Path, tmp_path: Path) -> None:
    for wrong in (
        {"checkpoint": tmp_path / "nothing"},
        {"checkpoint": checkpoint / "config.json"},
        {"levels": ()},
    ):
        with pytest.raises(Usage):
            run(config(**({"checkpoint": checkpoint} | wrong)), quiet())
    (tmp_path / "empty").mkdir()
    assert run(config(tmp_path / "empty"), quiet()) == 2


def test_a_mistake_of_ours_is_not_called_a_difference(
    checkpoint: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def broken(*_: Any) -> int:
        raise AssertionError("ours")

    monkeypatch.setattr(command, "delivered", broken)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        program.run("verify", "proofcard.verify.command", [f"checkpoint={checkpoint}"], failed=2)
    assert end.value.code == 2
    assert "this is a bug of proofcard (AssertionError: ours)" in capsys.readouterr().err


def test_neither_torch_nor_modelopt_is_imported(checkpoint: Path, source: Path) -> None:
    """In a process of its own, all three levels."""
    program = (
        "import sys\n"
        "from proofcard.verify.command import run\n"
        "early = {'numba', 'torch'} & sys.modules.keys()\n"
        "status = run(sys.argv[1:])\n"
        "late = {'torch', 'modelopt', 'transformers', 'mlflow'} & sys.modules.keys()\n"
        "sys.exit(status or len(early) or len(late))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, f"checkpoint={checkpoint}", f"source={source}", "tracking=off"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[-1].startswith("verified (")
    assert "weights: " in said.stderr  # progress, as lines


def test_the_first_difference_is_under_the_table(checkpoint: Path, source: Path) -> None:
    harm(checkpoint)
    text = " ".join(Verified(checkpoint, source).screen.split())
    assert "integrity: 1 extra, 2 mismatched; the first:" in text
    assert "likely: one flipped bit" in text
