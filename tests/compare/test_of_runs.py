"""`compare RUN RUN`: what differs in what is recorded of two runs, and which of it can explain what."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, command, tiny, tiny_recipe

from proofcard import manifest
from proofcard.compare import causes, explaining
from proofcard.documents.reproduction import Effect
from proofcard.documents.run_comparison import Explanation, Metric

GOLDEN = ROOT / "tests" / "golden" / "manifest-1" / "checkpoint"


@pytest.fixture
def body() -> dict[str, Any]:
    """The values of a sealed checkpoint's manifest."""
    return manifest.read(GOLDEN).values()


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at the end of the path."""
    other = copy.deepcopy(body)
    inner: Any = other
    *steps, last = path.split("/")
    for step in steps:
        inner = inner[step]
    inner[last] = value
    return other


@pytest.mark.parametrize(
    ("path", "value", "kind", "effect"),
    [
        ("config/kv_cache/format", "none", "configuration", "calibration"),
        ("config/calibration/sequence_length", 7, "configuration", "samples"),
        ("config/calibration/batch_size", 7, "configuration", "calibration"),
        ("config/quantization/dequantize_to", "float32", "configuration", "any byte"),
        ("config/recipe/name", "other", "configuration", "nothing by itself"),
        ("config/model/repository", "other/name", "configuration", "nothing by itself"),
        ("toolchain/code", "0" * 64, "toolchain", "any byte"),
        ("toolchain/lock", "0" * 64, "toolchain", "nothing by itself"),
        ("platform/threads", 77, "platform", "calibration"),
    ],
)
def test_a_difference_has_its_kind_and_what_it_may_change(
    body: dict[str, Any], path: str, value: Any, kind: str, effect: Effect
) -> None:
    (cause,) = causes.between(body, changed(body, path, value))
    assert (cause.kind, cause.may_change, cause.b) == (kind, effect, value)
    assert causes.between(body, body) == []


def test_another_source_is_named_by_its_file(body: dict[str, Any]) -> None:
    name = next(iter(body["inputs"]["source"]["files"]))
    other = changed(body, f"inputs/source/files/{name}/sha256", "0" * 64)
    (cause,) = causes.between(body, other)
    assert (cause.what, cause.kind, cause.may_change) == (f"source {name}", "data", "any byte")


def outcomes(body: dict[str, Any], other: dict[str, Any], *metrics: Metric) -> dict[str, Explanation]:
    found = causes.between(body, other)
    each = explaining.explanations(body["outputs"], other["outputs"], found, list(metrics))
    return {one.outcome: one for one in each}


def test_what_differs_is_explained_by_what_may_change_it_and_by_nothing_else(body: dict[str, Any]) -> None:
    scale = next(name for name in body["outputs"]["tensors"] if name.endswith("input_scale"))
    weight = next(name for name in body["outputs"]["tensors"] if name.endswith(".weight"))
    other = changed(body, "config/coverage/name", "natural")
    assert outcomes(body, other)["weights"].by == outcomes(body, other)["calibrated scales"].by == []
    other = changed(other, f"outputs/tensors/{scale}/sha256", "1" * 64)
    told = outcomes(body, other, Metric(name="kl_w4a4", a=1.0, b=2.0))
    assert (told["calibrated scales"].differ, told["calibrated scales"].by) == (1, ["coverage.name"])
    assert (told["weights"].differ, told["weights"].by) == (0, [])
    assert told["metrics"].by == ["coverage.name"]
    other = changed(other, f"outputs/tensors/{weight}/sha256", "1" * 64)
    assert (outcomes(body, other)["weights"].differ, outcomes(body, other)["weights"].by) == (1, [])
    other = changed(other, "toolchain/code", "0" * 64)
    assert outcomes(body, other)["weights"].by == ["code"]


def test_what_measured_otherwise_explains_figures_and_no_byte(body: dict[str, Any]) -> None:
    settings = ({"benchmark.load.waves": "3", "serve.port": "1"}, {"benchmark.load.waves": "4"})
    (cause,) = causes.between(body, body, settings)
    assert (cause.kind, cause.what, cause.may_change) == ("measurement", "benchmark.load.waves", "figures")
    metrics = [Metric(name="tokens_per_s", a=10.0, b=12.0)]
    told = explaining.explanations(body["outputs"], body["outputs"], [cause], metrics)
    assert [one.by for one in told] == [[], [], [], ["benchmark.load.waves"]]


def test_equal_bytes_leave_only_the_measurement_to_explain_figures(body: dict[str, Any]) -> None:
    other = changed(body, "platform/threads", 77)
    told = outcomes(body, other, Metric(name="tokens_per_s", a=10.0, b=12.0))
    assert (told["metrics"].differ, told["metrics"].by) == (1, [])


def test_two_runs_with_one_option_changed(tmp_path: Path, texts: Path) -> None:
    tiny(tmp_path / "model", "llama")
    recipe = [*tiny_recipe(Path("model"), texts), "quantization=nvfp4_mlp_only"]
    for kv_cache in ("fp8", "none"):
        made = command("quantize", *recipe, f"kv_cache={kv_cache}", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    one, other = sorted(
        path
        for path in (tmp_path / "runs" / "checkpoints").iterdir()
        if path.is_dir() and not path.is_symlink()
    )
    keys = [manifest.read(folder).key for folder in (one, other)]
    said = command("compare", str(one), keys[1][:16], "--json", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert [told[side]["key"] for side in "ab"] == keys
    deciding = [cause["what"] for cause in told["causes"] if cause["may_change"] != "nothing by itself"]
    assert deciding == ["kv_cache.format"]
    by = {each["outcome"]: each for each in told["explanations"]}
    assert (by["weights"]["differ"], by["calibrated scales"]["by"]) == (0, ["kv_cache.format"])
    assert {metric["name"] for metric in told["metrics"]} == {"size_gb"}
    runs = [told[side]["run"] for side in "ab"]
    assert all(runs)

    again = command("compare", runs[0], other.name, "--json", cwd=tmp_path)  # an id, and a run's name
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["explanations"] == told["explanations"]
    for words, sentence in (
        ([str(one)], "compare takes two runs, not 1"),
        ([str(one), "nobody"], "no run of the tracking store has this id, key or name"),
        ([str(one), "no'body"], "is neither a folder, a key nor the name of a run"),
    ):
        refused = command("compare", *words, cwd=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert sentence in refused.stderr.splitlines()[-1]
