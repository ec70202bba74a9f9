"""`plan` as a person meets it: the real model's numbers, two recipes side by side, plain refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import command, tiny, tiny_config, tiny_recipe

from proofcard.documents.plan import Plan
from proofcard.plan.compare import side_by_side


def plan(cwd: Path, *words: str) -> tuple[dict[str, Any], str]:
    said = command("plan", *words, "report=plan.json", cwd=cwd)
    assert said.returncode == 0, said.stderr
    assert max(map(len, said.stdout.splitlines())) <= 100
    found: dict[str, Any] = json.loads((cwd / "plan.json").read_text())
    return found, said.stdout


@pytest.mark.timeout(1800)  # minutes of one core; a machine full of other work may take its time
def test_minimax_m2_7_is_counted_as_published(tmp_path: Path) -> None:
    """The one test that takes its time: 96,165 real quantizers, on the meta device."""
    said, shown = plan(tmp_path, "recipe=minimax_m2_7_nvfp4", "kv_cache=fp8", "tracking=off", "details=true")
    assert said["quantizers"]["inserted"] == said["quantizers"]["by_formula"] == 96_165
    assert said["quantizers"]["enabled"] == 62 * (256 * 3 * 2 + 2)
    assert said["export"]["tensors"] == 191_211
    assert said["model"]["parameters"] == pytest.approx(228.70e9, rel=1e-4)
    assert said["export"]["bytes"] == pytest.approx(134.3e9, rel=1e-3)
    attention = next(g for g in said["export"]["groups"] if (g["role"], g["dtype"]) == ("attention", "BF16"))
    assert said["export"]["bytes"] + attention["bytes"] == pytest.approx(139.8e9, rel=1e-3)
    assert said["source"]["download"] == pytest.approx(230e9, rel=1e-3)
    assert said["work"]["flop_routed"] == pytest.approx(4.1e17, rel=0.15)
    assert said["work"]["flop_forced"] == pytest.approx(6.3e18, rel=0.05)
    card = {512: 65e3, 1500: 192e3, 5000: 640e3, 30000: 3.8e6}
    for row in said["work"]["coverage_table"]:
        assert row["routed"] == pytest.approx(card[row["samples"]], rel=0.02)
        assert row["forced"] == row["samples"] * 4096
        assert row["forced_as_run"] == row["samples"] * 512
    assert said["work"]["memory"]["modelopt_gpu_and_host"] == pytest.approx(457e9, rel=1e-3)
    assert said["work"]["memory"]["hidden_states"] == pytest.approx(252e9, rel=1e-2)
    rtx, small, h200, b200 = said["serving"][:4]
    assert rtx["weights_per_gpu"] == pytest.approx(67.2e9, rel=1e-2)
    assert rtx["kv_tokens"]["fp8"] == pytest.approx(2 * rtx["kv_tokens"]["bf16"], abs=1)
    assert (rtx["runs"], h200["runs"], b200["runs"]) == ("native", "W4A16", "native")
    assert [row["fits"] for row in (rtx, small, h200, b200)] == [True, False, True, True]
    assert b200["context"] == {"bf16": 196_608, "fp8": 196_608}
    assert "96,165 inserted, as predicted by formula" in shown


def test_the_demo_is_printed_written_and_tracked(tmp_path: Path) -> None:
    said, shown = plan(tmp_path, "recipe=demo")
    assert said["export"]["tensors"] == 615
    assert len(shown.splitlines()) <= 18
    assert "4.9 MB in 1 file, 615 tensors" in shown
    assert "report: plan.json" in shown
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("proofcard")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx({"size_gb": said["export"]["bytes"] / 1e9})
    assert run.data.params["kv_cache.format"] == "fp8"
    assert "plan/plan.json" in [file.path for file in client.list_artifacts(run.info.run_id, "plan")]


def test_side_by_side_shows_each_difference_and_what_it_changes(tmp_path: Path, texts: Path) -> None:
    tiny(tmp_path / "model", "mixtral")
    overrides = [*tiny_recipe(tmp_path / "model", texts), "tracking=off"]
    with_scales, _ = plan(tmp_path, *overrides)
    without, _ = plan(tmp_path, *overrides, "kv_cache=none", "coverage=natural")
    said = side_by_side(Plan.model_validate(with_scales), Plan.model_validate(without))
    assert [(row.name, row.a, row.b) for row in said.configuration] == [
        ("coverage.name", "all_experts", "natural"),
        ("kv_cache.format", "fp8", "none"),
    ]
    changed = {row.name: (row.a, row.b) for row in said.changes}
    tensors = with_scales["export"]["tensors"]
    assert changed["export_tensors"] == (tensors, tensors - 6)
    assert changed["quantizers_enabled"][0] - changed["quantizers_enabled"][1] == 6
    assert changed["flop_forced"][1] == 0
    assert "quantizers_inserted" not in changed


def test_two_names_are_two_recipes(tmp_path: Path, texts: Path) -> None:
    tiny(tmp_path / "model", "mixtral")
    same = [word for word in tiny_recipe(tmp_path / "model", texts) if not word.startswith("recipe=")]
    said, shown = plan(tmp_path, "local", "local", *same, "tracking=off")
    assert (said["configuration"], said["changes"]) == ([], [])
    assert "differences in configuration: nothing" in shown


def config_without(folder: Path, key: str) -> str:
    folder.mkdir()
    said = tiny_config("mixtral").to_dict() | {"architectures": ["MixtralForCausalLM"]}
    said.pop(key)
    (folder / "config.json").write_text(json.dumps(said))
    return str(folder)


def refused(cwd: Path, *words: str) -> str:
    said = command("plan", *words, "tracking=off", cwd=cwd)
    assert said.returncode == 2
    assert "Traceback" not in said.stderr
    assert not (cwd / "runs/plans").exists()
    return said.stderr.splitlines()[-1]


def test_what_cannot_be_planned_says_so_in_one_sentence(tmp_path: Path) -> None:
    lacking = config_without(tmp_path / "lacking", "num_experts_per_tok")
    texts = "calibration.datasets.text.path=texts.jsonl"
    assert "has no num_experts_per_tok" in refused(tmp_path, "recipe=local", f"model.path={lacking}", texts)
    assert "does not exist" in refused(tmp_path, "recipe=local", "model.path=/nowhere", texts)
    assert "does not exist: did you mean 'demo'?" in refused(tmp_path, "demoo")
    assert "at most two recipes" in refused(tmp_path, "a", "b", "c")


def test_patterns_that_match_nothing_stop(tmp_path: Path, texts: Path) -> None:
    tiny(tmp_path / "model", "llama")
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    said = refused(tmp_path, *tiny_recipe(tmp_path / "model", texts))
    assert said.startswith("plan: the quantization format selects no module") or "match" in said
