"""A recipe's name belongs to what the unmodified recipe makes; reports stay with their checkpoint."""

from pathlib import Path

import pytest

from proofcard.config import QuantizeConfig, compose
from proofcard.quantize.naming import name_latest


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `checkpoints`, in which the demo's name is one of two checkpoints, with a report."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "checkpoints"
    for key in ("demo-aaa", "demo-bbb"):
        (folder / key).mkdir(parents=True)
    (folder / "demo").symlink_to("demo-aaa")
    (folder / "demo.verification.json").write_text("about aaa")
    (folder / "demo.analysis").mkdir()
    (folder / "demo_other.verification.json").write_text("another recipe's")
    return folder


def config(*words: str) -> QuantizeConfig:
    return compose(QuantizeConfig, "config", ["tracking=off", *words])


@pytest.mark.parametrize("word", ["coverage=natural", "kv_cache=none", "seed=5", "calibration.batch_size=2"])
def test_a_modified_recipe_leaves_the_name(named: Path, word: str) -> None:
    said = name_latest(config(word), named / "demo-bbb")
    assert said == (
        "runs/checkpoints/demo stays with demo-aaa: the name is for recipe=demo without other settings"
    )
    assert (named / "demo").readlink() == Path("demo-aaa")
    assert (named / "demo.verification.json").read_text() == "about aaa"


def test_a_modified_recipe_gets_no_name(named: Path) -> None:
    (named / "demo").unlink()
    assert "is not made" in name_latest(config("coverage=natural"), named / "demo-bbb")
    assert not (named / "demo").is_symlink()


def test_the_unmodified_recipe_takes_the_name_and_leaves_the_reports(named: Path) -> None:
    said = name_latest(config("hardware=cpu", "hardware.threads=1"), named / "demo-bbb")
    assert said == (
        "runs/checkpoints/demo is this checkpoint from now on, and no longer demo-aaa; reports about that "
        "one are now demo-aaa.*"
    )
    assert (named / "demo").readlink() == Path("demo-bbb")
    assert sorted(path.name for path in named.glob("*.*")) == [
        "demo-aaa.analysis", "demo-aaa.verification.json", "demo_other.verification.json",
    ]  # fmt: skip
    assert name_latest(config(), named / "demo-bbb") == ""


def test_what_a_recipe_leaves_open_may_be_filled_in(named: Path) -> None:
    words = ["recipe=minimax_m2_7_nvfp4", "model.revision=" + "0" * 40]
    made = named / "minimax_m2_7_nvfp4-ccc"
    made.mkdir()
    assert name_latest(config(*words), made) == ""
    assert (named / "minimax_m2_7_nvfp4").readlink() == Path(made.name)


def test_a_folder_of_ones_choice_gets_no_name(named: Path, tmp_path: Path) -> None:
    assert name_latest(config(f"output_dir={tmp_path}/mine"), tmp_path / "mine") == ""
    assert (named / "demo").readlink() == Path("demo-aaa")
