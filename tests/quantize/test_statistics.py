"""What calibration saw, held to hooks on the plain model: no code of ours decides the expected numbers."""

import csv
import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from running import ROOT, command, quantize, tiny, tiny_recipe
from safetensors.torch import load_file, save_file

from proofcard import manifest
from proofcard.checkpoint.tensors import read_folder

sys.path.insert(0, str(ROOT))  # `demo` is part of the repository, not of the installed package

BLOCK = "model.layers.{}.block_sparse_moe"
COLD = (1, 3)  # layer and expert that no router of these tests chooses
DATASETS = ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2",
            "llama_nemotron")  # fmt: skip
FEW = [f"calibration.datasets.{name}.samples=2" for name in DATASETS]
MARKS = (4, 8, 10)  # ten samples in batches of four


def rows(checkpoint: Path, name: str) -> list[dict[str, str]]:
    with (checkpoint / name).open(newline="") as file:
        return list(csv.DictReader(file))


def amaxes(checkpoint: Path, column: str) -> dict[str, float]:
    return {row["quantizer"]: float(row[column]) for row in rows(checkpoint, "calibration_amax.csv")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model with one expert that its router never chooses, for a bias of −100."""
    folder = tmp_path_factory.mktemp("cold") / "model"
    shutil.copytree(ROOT / "demo" / "model", folder)
    tensor = read_folder(folder)[f"{BLOCK.format(COLD[0])}.e_score_correction_bias"]
    with tensor.path.open("r+b") as file:
        file.seek(tensor.start + 4 * COLD[1])
        file.write(np.float32(-100).tobytes())
    return folder


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """Natural routing, tracked; its run's store is `runs/mlflow.db` beside it."""
    cwd = tmp_path_factory.mktemp("natural")
    said = command(
        "quantize", "output_dir=checkpoint", f"model.path={source}", "coverage=natural", *FEW, cwd=cwd
    )
    assert said.returncode == 0, said.stderr
    assert "routed positions per expert and layer, 1 of 48 cold" in said.stdout
    return cwd / "checkpoint"


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    return quantize(tmp_path_factory.mktemp("all"), f"model.path={source}", "coverage=all_experts", *FEW)


@pytest.fixture(scope="module")
def topped_up(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    overrides = [f"model.path={source}", "coverage=top_up", "coverage.minimum_tokens=1"]
    return quantize(tmp_path_factory.mktemp("top"), *overrides, *FEW)


@pytest.fixture(scope="module")
def seen(natural: Path, source: Path) -> dict[str, Any]:
    """The plain model, dequantized, on the same samples: `routed` [layers, experts], `amax` by mark, size."""
    from demo.perplexity import load_model

    model = load_model(source, attention="eager")
    [samples] = (natural.parent / "runs" / "samples").glob("*/tokens.safetensors")
    stored = load_file(samples)
    texts = stored["input_ids"].split(stored["lengths"].tolist())
    routed = np.zeros((3, 16), np.int64)
    largest: dict[str, float] = defaultdict(float)
    bias = [layer.block_sparse_moe.e_score_correction_bias for layer in model.model.layers]

    def route(layer: int, logits: torch.Tensor) -> None:
        for chosen in torch.topk(logits.float().sigmoid() + bias[layer], 4).indices.reshape(-1).tolist():
            routed[layer, chosen] += 1

    def look(name: str, values: torch.Tensor) -> None:
        if values.numel():
            largest[name] = max(largest[name], values.abs().max().item())

    for name, module in model.named_modules():
        if name.endswith(".gate"):
            layer = int(name.split(".")[2])
            module.register_forward_hook(lambda _m, _i, out, layer=layer: route(layer, out))
        if name.endswith((".w1", ".w2", ".w3")):
            quantizer = f"{name}.input_quantizer"
            module.register_forward_pre_hook(lambda _m, args, name=quantizer: look(name, args[0]))
        if name.endswith(".v_proj"):
            quantizer = name.replace("v_proj", "v_bmm_quantizer")
            module.register_forward_hook(lambda _m, _i, out, name=quantizer: look(name, out))
    amax, positions = {}, 0
    for first in range(0, len(texts), 4):
        group = texts[first : first + 4]
        longest = max(map(len, group))
        ids = torch.full((len(group), longest), model.config.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(group):
            ids[row, longest - len(text) :] = text
            mask[row, longest - len(text) :] = 1
        positions += ids.numel()
        with torch.no_grad():
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        amax[min(first + 4, len(texts))] = dict(largest)
    return {"routed": routed, "amax": amax, "positions": positions}


def test_the_natural_amax_of_a_forced_run_is_that_of_a_run_that_forces_nothing(
    natural: Path, everywhere: Path, topped_up: Path
) -> None:
    alone = amaxes(natural, "amax@10")
    assert amaxes(natural, "natural_amax") == alone
    assert amaxes(everywhere, "natural_amax") == alone != amaxes(everywhere, "amax@10")
    assert amaxes(topped_up, "natural_amax") == alone


def test_a_batch_with_samples_of_two_datasets_tells_of_both(natural: Path) -> None:
    header = rows(natural, "calibration_datasets.csv")[0].keys()
    mixed = ["+".join(DATASETS[:2]), "+".join(DATASETS[2:4]), DATASETS[4]]
    assert list(header) == ["layer", "quantizer", *(f"amax@{name}" for name in mixed)]


def test_each_expert_saw_what_the_model_s_own_router_sends(natural: Path, seen: dict[str, Any]) -> None:
    table = rows(natural, "calibration_coverage.csv")
    counted = {(int(row["layer"]), int(row["expert"])): int(row["routed_positions"]) for row in table}
    assert counted == dict(np.ndenumerate(seen["routed"]))
    assert [place for place, count in counted.items() if count == 0] == [COLD]
    assert [(int(row["layer"]), int(row["expert"])) for row in table if row["cold"] == "1"] == [COLD]
    assert {row["forced_positions"] for row in table} == {"0"}
    assert {row["block"] for row in table} == {BLOCK.format(layer) for layer in range(3)}


def test_the_amax_after_so_many_samples_is_what_hooks_on_the_plain_model_see(
    natural: Path, seen: dict[str, Any]
) -> None:
    assert tuple(seen["amax"]) == MARKS
    for count in MARKS:
        found = amaxes(natural, f"amax@{count}")
        keys = {name for name in found if name.endswith("k_bmm_quantizer")}
        assert len(keys) == 3
        assert {name: found[name] for name in found.keys() - keys if found[name]} == seen["amax"][count]


def test_the_exported_amax_is_the_one_in_the_checkpoint(natural: Path, topped_up: Path) -> None:
    for checkpoint in (natural, topped_up):
        tensors = load_file(checkpoint / "model.safetensors")
        exported = amaxes(checkpoint, "exported_amax")
        assert len(exported) == 3 * (16 * 3 + 2)
        for name, value in exported.items():
            if name.endswith(".input_quantizer"):
                scale, bound = tensors[name.replace("input_quantizer", "input_scale")], 6 * 448
            else:
                kind = name[name.rindex(".") + 1]
                scale = tensors[name.replace(f"{kind}_bmm_quantizer", f"{kind}_proj.{kind}_scale")]
                bound = 448
            assert scale.item() == np.float32(value) / np.float32(bound), name


def test_naturally_a_cold_expert_takes_the_largest_amax_of_its_layer(natural: Path) -> None:
    measured, exported = amaxes(natural, "amax@10"), amaxes(natural, "exported_amax")
    for layer in range(3):
        for part in ("w1", "w2", "w3"):
            names = [f"{BLOCK.format(layer)}.experts.{n}.{part}.input_quantizer" for n in range(16)]
            assert {exported[name] for name in names} == {max(measured[name] for name in names)}
            assert (measured[names[COLD[1]]] == 0) == (layer == COLD[0])


def test_top_up_forces_the_cold_expert_alone(
    natural: Path, everywhere: Path, topped_up: Path, seen: dict[str, Any]
) -> None:
    coverage = {path: rows(path, "calibration_coverage.csv") for path in (natural, everywhere, topped_up)}
    routed = [[row["routed_positions"] for row in table] for table in coverage.values()]
    assert routed[0] == routed[1] == routed[2]
    everything = str(seen["positions"])
    assert {row["forced_positions"] for row in coverage[everywhere]} == {everything}
    for row in coverage[topped_up]:
        cold = (int(row["layer"]), int(row["expert"])) == COLD
        assert row["forced_positions"] == (everything if cold else "0")


def test_top_up_calibrates_the_cold_expert_by_all_tokens_and_the_others_naturally(
    natural: Path, everywhere: Path, topped_up: Path
) -> None:
    cold = f"{BLOCK.format(COLD[0])}.experts.{COLD[1]}."
    for column in [f"amax@{count}" for count in MARKS]:
        own, most, made = (amaxes(path, column) for path in (natural, everywhere, topped_up))
        for name in made:
            assert made[name] == (most if name.startswith(cold) else own)[name], name
            assert own[name] <= made[name] <= most[name], name
        assert all(made[name] > 0 for name in made if name.startswith(cold))
    made, most = amaxes(topped_up, "exported_amax"), amaxes(everywhere, "exported_amax")
    assert made == amaxes(topped_up, "amax@10")  # nothing is shared
    assert made != most


def test_the_manifest_tells_the_totals(natural: Path, topped_up: Path, seen: dict[str, Any]) -> None:
    for checkpoint, forced in ((natural, 0), (topped_up, 1)):
        said = manifest.read(checkpoint).statistics
        assert said["positions"] == seen["positions"] > said["tokens"]
        assert (said["experts"], said["experts_cold"], said["experts_forced"]) == (48, 1, forced)
        assert said["routed_positions_smallest"] == 0
        assert said["routed_positions_median"] == sorted(seen["routed"].reshape(-1).tolist())[23]
        assert said["routed_positions_largest"] == seen["routed"].max()
        table = rows(checkpoint, "calibration_amax.csv")
        final = sum(
            row["amax@4"] == row["amax@10"] != "0.0" for row in table
        )  # 4 is the last mark up to half
        assert (said["amaxes"], said["amaxes_final_after_half"]) == (len(table), final)


def test_the_tables_are_sealed_like_every_other_file(natural: Path, source: Path, tmp_path: Path) -> None:
    sealed = manifest.read(natural).outputs.files
    assert {"calibration_amax.csv", "calibration_coverage.csv"} <= sealed.keys()
    said = command("verify", f"checkpoint={natural}", f"source={source}", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    harmed = tmp_path / "harmed"
    shutil.copytree(natural, harmed)
    table = harmed / "calibration_coverage.csv"
    table.write_bytes(table.read_bytes().replace(b",1\n", b",0\n"))
    said = command("verify", f"checkpoint={harmed}", f"source={source}", cwd=tmp_path)
    assert said.returncode == 1
    assert "calibration_coverage.csv" in said.stdout


def test_mlflow_gets_tables_figures_and_both_curves(natural: Path, seen: dict[str, Any]) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{natural.parent}/runs/mlflow.db")
    client = mlflow.MlflowClient()
    found = mlflow.search_runs(search_all_experiments=True, output_format="list")
    [run] = [
        run
        for run in found
        if run.data.tags["mlflow.runName"].startswith("quantize ") and ":" not in run.info.run_name
    ]

    def history(name: str) -> dict[int, float]:
        return {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}

    def files(folder: str) -> set[str]:
        return {file.path for file in client.list_artifacts(run.info.run_id, folder)}

    assert history("by_layer/experts_cold") == {0: 0, 1: 1, 2: 0}
    assert history("by_layer/routed_positions_largest") == dict(enumerate(seen["routed"].max(axis=1)))
    exported = amaxes(natural, "exported_amax")
    for kind in ("input", "k_bmm", "v_bmm"):
        assert history(f"by_layer/amax_{kind}") == {
            layer: max(
                value
                for name, value in exported.items()
                if name.startswith(f"model.layers.{layer}.") and name.endswith(f".{kind}_quantizer")
            )
            for layer in range(3)
        }
        last = {n: v for n, v in amaxes(natural, "amax@10").items() if n.endswith(f".{kind}_quantizer") and v}
        at = {count: amaxes(natural, f"amax@{count}") for count in MARKS}
        assert history(f"by_samples/converged_{kind}") == pytest.approx(
            {count: np.mean([at[count][n] == last[n] for n in last]) for count in MARKS}
        )
        assert history(f"by_samples/relative_amax_{kind}") == pytest.approx(
            {count: np.mean([at[count][n] / last[n] for n in last]) for count in MARKS}
        )
    assert files("plots") == {f"plots/{name}.png" for name in ("amax", "convergence", "coverage")}
    assert files("tables") == {f"tables/calibration_{name}.csv" for name in ("amax", "coverage", "datasets")}
    for name in ("amax", "convergence", "coverage"):
        picture = Path(client.download_artifacts(run.info.run_id, f"plots/{name}.png"))
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_model_without_experts_has_no_coverage(tmp_path: Path, texts: Path) -> None:
    source = tiny(tmp_path / "source", "llama")
    made = quantize(tmp_path, *tiny_recipe(source, texts), "quantization=nvfp4_mlp_only")
    assert not (made / "calibration_coverage.csv").exists()
    layers = json.loads((source / "config.json").read_text())["num_hidden_layers"]
    assert len(rows(made, "calibration_amax.csv")) == layers * (3 + 2)
    assert "experts" not in manifest.read(made).statistics


@pytest.mark.parametrize(
    ("part", "experts", "value", "sentence"),
    [
        # The gate overflows to −inf and SiLU makes NaN of it. No other expert's larger amax may hide that.
        (
            "w1",
            (2,),
            3e38,
            "experts.2.w2.input_quantizer has amax nan after calibration: its input is not finite",
        ),
        ("w3", (0, 1, 2, 3), 0.0, "experts.0.w2.input_quantizer has amax 0.0 after calibration: it got"),
    ],
)
def test_a_quantizer_without_a_finite_positive_amax_is_named(
    tmp_path: Path, texts: Path, part: str, experts: tuple[int, ...], value: float, sentence: str
) -> None:
    source = tiny(tmp_path / "source", "mixtral")
    weights = load_file(source / "model.safetensors")
    for expert in experts:
        weights[f"{BLOCK.format(1)}.experts.{expert}.{part}.weight"].fill_(value)
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    recipe = [*tiny_recipe(source, texts), "coverage=natural"]
    said = command("quantize", "output_dir=out", "tracking=off", *recipe, cwd=tmp_path)
    assert said.returncode == 1
    assert f"{BLOCK.format(1)}.{sentence}" in said.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()
