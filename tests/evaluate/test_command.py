"""The command: what it finds, where it finds planted faults, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluating import Pair, altered
from running import command, tiny

EXPERT = "model.layers.{}.block_sparse_moe.experts.{}.{}"


def worst(evaluation: dict[str, Any], count: int) -> set[tuple[int, str]]:
    """Layer and name of the experts with the largest relative error."""
    found = sorted(evaluation["experts"], key=lambda each: -(each["error"] or {"value": 0})["value"])
    return {(each["layer"], each["expert"]) for each in found[:count]}


def test_every_number_has_its_interval(pair: Pair, evaluation: dict[str, Any]) -> None:
    names = [stream["name"] for stream in evaluation["streams"]]
    assert names == [
        "w4a16", "w4a4", "w4a4+kv", "w4a4+kv, routes of source", "source, routes of w4a4+kv",
    ]  # fmt: skip
    for stream in evaluation["streams"]:
        for name, number in stream["all"]["numbers"].items():
            assert number["low"] <= number["value"] <= number["high"] or "max" in name or "min" in name, name
        assert stream["all"]["numbers"]["kl_mean"]["value"] > 0
    for layer in evaluation["layers"]:
        assert all(each["low"] <= each["value"] <= each["high"] for each in layer["error"].values())
        assert 0 < layer["blocks"][0]["overlap"]["w4a4"]["value"] <= 1
    assert sum(layer["share"]["value"] for layer in evaluation["layers"]) == pytest.approx(1)
    assert len(evaluation["experts"]) == 12 and evaluation["texts"]["documents"] == 3
    for expert in evaluation["experts"]:
        error, share = expert["error"], expert["share"]
        assert share["low"] <= share["value"] <= share["high"]
        if error["low"] is None:  # a draw of three texts may leave it without a row
            assert error["high"] is None and expert["rows"] > 0
        else:
            assert error["low"] <= error["value"] <= error["high"]
    assert any(expert["error"]["low"] is not None for expert in evaluation["experts"])
    assert sum(expert["share"]["value"] for expert in evaluation["experts"]) == pytest.approx(1)
    report = pair.folder / "checkpoint.evaluation"
    assert {path.name for path in report.iterdir()} == {
        "evaluation.json", "report.md", "layers.png", "routers.png", "experts.png",
    }  # fmt: skip


def test_costs_are_differences_of_means(evaluation: dict[str, Any]) -> None:
    means = {each["name"]: each["all"]["numbers"]["kl_mean"]["value"] for each in evaluation["streams"]}
    costs = {each["cost"]: each["kl_mean"]["value"] for each in evaluation["costs"]}
    assert costs == {
        "weights": pytest.approx(means["w4a16"]),
        "activations": pytest.approx(means["w4a4"] - means["w4a16"]),
        "KV cache": pytest.approx(means["w4a4+kv"] - means["w4a4"]),
    }


def test_texts_are_held_out_from_the_sample_set(pair: Pair, evaluation: dict[str, Any]) -> None:
    samples = next((pair.folder / "runs" / "samples").glob("[!.]*")) / "samples.jsonl"
    read = [json.loads(line) for line in (pair.folder / "whole" / "texts.jsonl").read_text().splitlines()]
    used = {json.loads(line)["text_sha256"] for line in samples.read_text().splitlines()}
    assert len(read) == 3 and not used & {each["text_sha256"] for each in read}
    manifest = json.loads((pair.checkpoint / "manifest.json").read_text())
    assert evaluation["texts"]["samples_key"] == manifest["inputs"]["samples"]["key"]


def test_planted_faults_come_out_first_at_their_layers_and_experts(pair: Pair) -> None:
    """One expert's scale doubled in layer 1, two experts swapped in layer 2."""

    def plant(tensors: dict[str, Any]) -> None:
        name = EXPERT.format(1, 2, "w2.weight_scale_2")
        tensors[name] = 2 * tensors[name]
        one, other = EXPERT.format(2, 0, ""), EXPERT.format(2, 3, "")
        for name in [name for name in tensors if name.startswith(one)]:
            twin = other + name.removeprefix(one)
            tensors[name], tensors[twin] = tensors[twin], tensors[name]

    checkpoint = pair.copied("planted")
    altered(checkpoint, plant)
    found = pair.evaluated("of-planted", f"evaluation.text={pair.few}", checkpoint=checkpoint)
    planted = [(1, 2), (2, 0), (2, 3)]
    assert worst(found, 3) == {(layer, EXPERT.format(layer, e, "")[:-1]) for layer, e in planted}
    shares = {layer["layer"]: layer["share"]["value"] for layer in found["layers"]}
    assert min(shares[1], shares[2]) > 2 * shares[0]


def test_equal_weights_cost_nothing(pair: Pair) -> None:
    """The source beside itself in another folder: 0 in every number, routes all the same."""
    again = shutil.copytree(pair.source, pair.folder / "again")
    found = pair.evaluated("of-itself", f"evaluation.text={pair.few}", checkpoint=again)
    numbers = found["streams"][0]["all"]["numbers"]
    assert numbers["kl_max"]["value"] == 0 and numbers["perplexity_ratio"]["value"] == 1
    assert numbers["same_top"]["value"] == 1
    assert all(layer["error"]["w4a16"]["value"] == 0 for layer in found["layers"])
    assert all(layer["blocks"][0]["overlap"]["w4a16"]["value"] == 1 for layer in found["layers"])


def test_nan_in_the_checkpoint_ends_with_its_layer(pair: Pair) -> None:
    checkpoint = pair.copied("broken")
    name = "model.layers.1.input_layernorm.weight"
    altered(checkpoint, lambda tensors: tensors[name].fill_(float("nan")))
    said = pair.said("output_dir=of-broken", f"evaluation.text={pair.few}", checkpoint=checkpoint)
    assert said.returncode == 1
    assert "layer 1 of w4a16 gives numbers that are not finite, in text 0" in said.stderr
    assert not (pair.folder / "of-broken").exists()


def test_wrong_pairs_end_in_one_sentence(pair: Pair, tmp_path: Path) -> None:
    text = f"evaluation.text={pair.texts}"
    other = tiny(tmp_path / "other", "mixtral", hidden_size=32)
    tokens = pair.copied("other-tokens")
    tokenizer = json.loads((tokens / "tokenizer.json").read_text())
    tokenizer["model"]["unk_token"] = "w1"
    (tokens / "tokenizer.json").write_text(json.dumps(tokenizer))
    lacking = pair.copied("lacking")
    gone = EXPERT.format(0, 1, "w1")
    altered(lacking, lambda t: [t.pop(name) for name in list(t) if name.startswith(gone)])
    unsealed = pair.copied("unsealed")
    words = [f"checkpoint={pair.checkpoint}", f"source={pair.source}", "tracking=off"]
    for said, sentence in (
        (command("evaluate", *words, cwd=pair.folder), "was calibrated with text, this recipe has"),
        (pair.said(text, source=other), "was not made from"),
        (pair.said(text, checkpoint=tokens), "tokenizer.json: model differs from the source's"),
        (pair.said(text, checkpoint=lacking), f"{gone}.weight is missing"),
        (pair.said(checkpoint=unsealed), "add evaluation.text=FILE.jsonl"),
        (pair.said(checkpoint=pair.source), "are the same folder"),
        (pair.said(source=tmp_path / "nowhere"), "does not exist: check the path"),
        (pair.said("evaluation.candidates=[w4a16+kv_affine]"), "needs k_bias and v_bias"),
        (pair.said("evaluation.candidates=[w8a8]"), "must be w4a16 or w4a4"),
        (pair.said(f"samples={pair.checkpoint}"), "is not the sample set"),
    ):
        assert said.returncode == 2, said.stderr
        assert sentence in said.stderr and "Traceback" not in said.stderr, said.stderr
