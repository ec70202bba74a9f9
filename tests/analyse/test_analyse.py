"""`analyse` on the demo: every number counted anew from the sealed files, and what it refuses."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from running import command, contents, quantize
from safetensors.torch import load_file
from several import SMALL

from proofcard import manifest
from proofcard.analyse.command import run
from proofcard.errors import Usage

NAMES = ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2",
         "llama_nemotron")  # fmt: skip
GROUPS = {"inputs of w1, w3": (".w1.", ".w3."), "inputs of w2": (".w2.",), "keys": (".k_bmm",),
          "values": (".v_bmm",)}  # fmt: skip


def rows(checkpoint: Path, name: str) -> list[dict[str, str]]:
    with (checkpoint / f"calibration_{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(checkpoint: Path, table: str, name: str, words: tuple[str, ...] = ("",)) -> np.ndarray:
    return np.array(
        [
            float(row[name])
            for row in rows(checkpoint, table)
            if any(word in row.get("quantizer", "") for word in words)
        ]
    )


@pytest.fixture(scope="module")
def screen(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The report's folder and what the command printed."""
    cwd = tmp_path_factory.mktemp("analysed")
    said = command("analyse", f"checkpoint={demo}", "report=report", "tracking=off", cwd=cwd)
    assert said.returncode == 0, said.stderr
    return cwd / "report", said.stdout


@pytest.fixture(scope="module")
def told(screen: tuple[Path, str]) -> dict[str, Any]:
    return json.loads((screen[0] / "analysis.json").read_text())


def test_the_bytes_of_calibration_are_those_of_the_scales(demo: Path, told: dict[str, Any]) -> None:
    sizes = {name: value.nbytes for name, value in load_file(demo / "model.safetensors").items()}
    scales = [size for name, size in sizes.items() if name.endswith(("input_scale", "k_scale", "v_scale"))]
    assert (told["bytes"]["bytes"], told["bytes"]["total"]) == (sum(scales), sum(sizes.values()))
    assert sum(kind["tensors"] for kind in told["bytes"]["kinds"].values()) == len(scales) == 150


def test_convergence_is_counted_by_group_and_mark(demo: Path, told: dict[str, Any]) -> None:
    assert told["convergence"].keys() == GROUPS.keys()
    for title, words in GROUPS.items():
        last = column(demo, "amax", "amax@80", words)
        for point in told["convergence"][title]:
            part = column(demo, "amax", f"amax@{point['samples']}", words) / last
            assert point["quantizers"] == part.size
            assert point["equal"] == pytest.approx((part == 1).mean())
            assert point["within_1_percent"] == pytest.approx((part >= 0.99).mean())
            assert point["within_5_percent"] == pytest.approx((part >= 0.95).mean())
            assert point["smallest"] == pytest.approx(part.min())


def test_each_dataset_is_told_by_what_it_alone_reaches(demo: Path, told: dict[str, Any]) -> None:
    assert [each["dataset"] for each in told["datasets"]] == list(NAMES)
    each = np.stack([column(demo, "datasets", f"amax@{name}") for name in NAMES])
    most = each == column(demo, "amax", "amax@80")
    assert most.any(axis=0).all()  # all together are the whole
    for place, said in enumerate(told["datasets"]):
        assert said["sets"] == most[place].sum()
        assert said["sets_alone"] == (most[place] & (most.sum(axis=0) == 1)).sum()
        routed = column(demo, "coverage", f"routed@{NAMES[place]}")
        assert (said["routed"], said["smallest"]) == (routed.sum(), routed.min())
        assert said["cold"] == (routed == 0).sum()


def test_coverage_and_forcing_are_counted(demo: Path, told: dict[str, Any]) -> None:
    routed, said = column(demo, "coverage", "routed_positions"), told["coverage"]
    assert (said["smallest"], said["largest"], said["mean"]) == (routed.min(), routed.max(), routed.mean())
    assert said["below"] == {str(n): int((routed < n).sum()) for n in (100, 1_000, 10_000, 100_000)}
    for title in list(GROUPS)[:2]:
        whole = column(demo, "amax", "amax@80", GROUPS[title])
        part = column(demo, "amax", "natural_amax", GROUPS[title]) / whole
        near = told["forcing"]["near"][title]
        assert near["smallest"] == pytest.approx(part.min()) and near["smallest"] <= 1
        assert near["equal"] == pytest.approx((part == 1).mean())
        by = told["forcing"]["by_routed"][title]
        assert sum(point["quantizers"] for point in by) == part.size
    assert told["forcing"]["near"].keys() == set(list(GROUPS)[:2])  # nothing is forced upon attention


def test_it_fits_the_screen_and_shows_figures(screen: tuple[Path, str]) -> None:
    report, text = screen
    assert max(map(len, text.splitlines())) <= 100
    figures = {"amax", "convergence", "coverage", "datasets", "forcing", "routing"}
    assert {path.stem for path in report.glob("*.png")} == figures
    page = (report / "report.md").read_text()
    assert all(f"({name}.png)" in page for name in figures)
    assert str(report.parent) not in page + (report / "analysis.json").read_text()


def test_again_and_elsewhere_it_says_the_same(demo: Path, screen: tuple[Path, str], tmp_path: Path) -> None:
    moved = shutil.copytree(demo, tmp_path / "moved")
    first_report = shutil.copytree(screen[0], tmp_path / "moved.analysis")
    for path in first_report.glob("*.png"):
        path.write_bytes(b"of the first")
    said = command("analyse", f"checkpoint={moved}", "tracking=off", cwd=tmp_path)  # replaces it
    assert said.returncode == 0, said.stderr
    first, second = contents(screen[0]), contents(tmp_path / "moved.analysis")
    assert first.keys() == second.keys()
    assert [n for n in first if first[n] != second[n]] == []


def test_a_natural_checkpoint_has_no_forcing(demo: Path, tmp_path: Path) -> None:
    natural = quantize(tmp_path, *SMALL, "hardware.threads=2", "coverage=natural")
    report = f"report={tmp_path / 'report'}"
    done = command("analyse", f"checkpoint={natural}", report, "tracking=off", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "report" / "analysis.json").read_text()
    assert json.loads(done.stdout)["forcing"] is None
    assert not (tmp_path / "report" / "forcing.png").exists()
    compared = command("compare", f"a={demo}", f"b={natural}", "report=both", "tracking=off", cwd=tmp_path)
    assert compared.returncode == 0 and "Scales of calibration" in compared.stdout, compared.stderr
    scales = json.loads((tmp_path / "both" / "comparison.json").read_text())["scales"]
    assert scales.keys() == GROUPS.keys()
    for title, words in GROUPS.items():
        exported = [column(path, "amax", "exported_amax", words) for path in (natural, demo)]
        ratio = exported[0] / exported[1]
        assert scales[title]["smallest"] == pytest.approx(ratio.min())
        assert scales[title]["equal"] == pytest.approx((ratio == 1).mean())


def test_mlflow_gets_a_run_under_the_checkpoint_s(demo: Path, tmp_path: Path) -> None:
    said = command("analyse", f"checkpoint={demo}", "report=report", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs/mlflow.db")
    found = mlflow.search_runs(search_all_experiments=True, output_format="list")
    [told] = [one for one in found if one.data.tags.get("command") == "analyse"]
    parent = mlflow.get_run(told.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["key"] == told.data.tags["key"] == manifest.read(demo).key
    assert parent.data.tags["mlflow.runName"] == f"demo-{manifest.read(demo).key[:12]}"
    assert told.info.run_name == f"analyse demo-{manifest.read(demo).key[:8]}"
    assert 0 < told.data.metrics["calibrated_share"] < 0.001
    files = mlflow.MlflowClient().list_artifacts(told.info.run_id, "analysis")
    assert {file.path for file in files} == {
        f"analysis/{name}" for name in ("analysis.json", "coverage.json", "report.md")
    }


def test_what_cannot_be_analysed_is_said(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(*words: str) -> str:
        with pytest.raises(Usage) as said:
            run([*words, "tracking=off"])
        return str(said.value)

    assert "is not a folder" in refused("checkpoint=nothing")
    assert "never sealed" in refused(f"checkpoint={tmp_path}")
    assert "inside the checkpoint" in refused(f"checkpoint={demo}", f"report={demo}/report")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "is not a report" in refused(f"checkpoint={demo}", "report=mine")
    assert (tmp_path / "mine" / "letter.txt").exists()
    harmed = shutil.copytree(demo, tmp_path / "harmed")
    with (harmed / "calibration_amax.csv").open("a") as file:
        file.write("0,more,1,1,1,1,1,1,1,1\n")
    assert "differs from what was sealed" in refused(f"checkpoint={harmed}")
    (harmed / "calibration_amax.csv").unlink()
    assert "calibration_amax.csv was sealed and is missing" in refused(f"checkpoint={harmed}")
    flipped = Path(shutil.copytree(demo, tmp_path / "flipped"))
    content = bytearray((flipped / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (flipped / "model.safetensors").write_bytes(content)
    assert "model.safetensors differs from what was sealed" in refused(f"checkpoint={flipped}")
    assert "did you mean 'report'" in refused(f"checkpoint={demo}", "reprot=x")
