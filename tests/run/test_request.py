"""Which words of the command line reach which stage, and what is refused before any of them starts."""

from pathlib import Path

import pytest

from proofcard.config import VerifyConfig, compose
from proofcard.errors import Usage
from proofcard.run import request, stages
from proofcard.run.target import Target

DEMO = Target(Path("demo/model"), Path("runs/checkpoints/demo-0123456789ab"), "0" * 64, None)


def commands(*words: str) -> dict[str, list[str]]:
    asked = request.read(list(words))
    return {stage: stages.words(stage, asked, DEMO) for stage in asked.words}


def test_the_demo_needs_no_word_but_its_name() -> None:
    said = commands("recipe=demo")
    checkpoint = "checkpoint=runs/checkpoints/demo-0123456789ab"
    assert said["quantize"] == ["quantize", "recipe=demo"]
    assert said["verify"] == ["verify", checkpoint, "source=demo/model"]
    assert said["serve"] == ["serve", checkpoint, "serving=transformers_cpu", "truth=demo", "stay=false"]
    assert said["benchmark"] == ["benchmark", checkpoint, "serving=transformers_cpu", "benchmark=demo"]
    assert said["evaluate"] == [
        "evaluate", checkpoint, "source=demo/model", "recipe=demo", "evaluation=demo"
    ]  # fmt: skip
    assert said["card"] == ["card", checkpoint, "license=apache-2.0"]
    assert commands() == said


def test_a_word_reaches_the_stages_that_it_concerns_and_no_other() -> None:
    said = commands(
        "recipe=demo", "kv_cache=none", "calibration.sequence_length=77", "evaluation.rows=3",
        "benchmark.waves=1", "serving.port=8000", "license=mit", "tracking=off", "work_dir=there",
        "output_dir=made",
    )  # fmt: skip
    takers = {
        word: {stage for stage, words in said.items() if word in words}
        for word in ("kv_cache=none", "evaluation.rows=3", "benchmark.waves=1", "serving.port=8000")
    }
    recipe = {"plan", "fetch", "quantize", "evaluate", "audit"}
    assert takers == {
        "kv_cache=none": recipe, "evaluation.rows=3": {"evaluate"}, "benchmark.waves=1": {"benchmark"},
        "serving.port=8000": {"serve", "benchmark"},
    }  # fmt: skip
    assert all({"tracking=off", "work_dir=there"} <= set(words) for words in said.values())
    assert "output_dir=made" not in said["evaluate"]  # there it is the folder of the evaluation
    assert said["card"][-3:] == ["license=mit", "tracking=off", "work_dir=there"]


def test_a_model_has_usual_options_which_the_command_line_overrules() -> None:
    real = ("recipe=minimax_m2_7_nvfp4", f"model.revision={'0' * 40}")
    said = commands(*real)
    assert said["serve"][2:4] == ["serving=sglang_recommended", "truth=card"]
    assert said["evaluate"][4] == "evaluation=protocol"
    said = commands(*real, "serving=sglang_hopper", "benchmark=demo")
    assert said["benchmark"][2:] == ["serving=sglang_hopper", "benchmark=demo"]
    assert said["serve"][2:4] == ["serving=sglang_hopper", "truth=demo"]


def test_a_launcher_is_for_quantize_alone() -> None:
    said = commands("hydra/launcher=slurm", "hydra.launcher.nodes=2")
    assert said["quantize"][-2:] == ["hydra/launcher=slurm", "hydra.launcher.nodes=2"]
    assert [stage for stage, words in said.items() if "hydra/launcher=slurm" in words] == ["quantize"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["skip=[sing]"], "skip"),
        (["skip=[quantize]"], "without quantize there is nothing to run"),
        (["skp=[sign]"], "unknown key 'skp'"),
        (["recipe=dmeo"], "recipe=dmeo does not exist: did you mean 'demo'?"),
        (["benchmark.waves=0"], "benchmark.waves=0"),
        (["processes=0"], "processes=0"),
        (["recipe=local"], "model.path"),
    ],
)
def test_a_wrong_word_is_named(words: list[str], sentence: str) -> None:
    with pytest.raises(Usage, match=sentence.replace("[", r"\[").replace("?", r"\?")):
        request.read(words)


def test_paths_of_any_form_reach_a_stage_as_they_were_given() -> None:
    there = Target(Path("a b/[x],it's"), Path("made=here/ümlaut"), "0" * 64, None)
    asked = request.read(["recipe=demo", "output_dir=made=here/ümlaut", "key=my key.pem"])
    assert stages.words("verify", asked, there)[1:] == ["checkpoint=made=here/ümlaut", "source=a b/[x],it's"]
    assert stages.words("sign", asked, there)[2:] == ["key=my key.pem"]
    config = compose(VerifyConfig, "verify", stages.words("verify", asked, there)[1:])
    assert (config.checkpoint, config.source) == (there.folder, there.source)


def test_several_processes_are_of_quantize_and_evaluate() -> None:
    asked = request.read(["processes=8"])
    counts = {stage: stages.processes(stage, asked) for stage in asked.words}
    assert {stage for stage, count in counts.items() if count == 8} == {"quantize", "evaluate"}


def test_what_is_left_out_has_its_reason() -> None:
    asked = request.read(["recipe=demo", "skip=[benchmark]"])
    assert stages.left_out(asked) == {
        "fetch": "nothing of the recipe is on the hub", "benchmark": "as requested",
    }  # fmt: skip
    real = request.read(["recipe=nvidia_m2_7", f"model.revision={'0' * 40}", "engine=modelopt", "key=x.pem"])
    assert list(stages.left_out(real)) == ["analyse"]
    unsigned = request.read(["recipe=nvidia_m2_7", f"model.revision={'0' * 40}"])
    assert stages.left_out(unsigned) == {"sign": "nobody to sign: key=FILE, pkcs11=URI or sigstore=true"}


def test_the_demo_signs_with_a_key_of_its_own_and_everybody_else_with_theirs() -> None:
    checkpoint = "checkpoint=runs/checkpoints/demo-0123456789ab"
    made = ["sign", checkpoint, "key=runs/keys/demo.pem", "create_key=true"]
    assert commands("recipe=demo")["sign"] == made
    there = commands("recipe=demo", "work_dir=there")["sign"]
    assert there == ["sign", checkpoint, "key=there/keys/demo.pem", "create_key=true", "work_dir=there"]
    assert commands("key=mine.pem")["sign"] == ["sign", checkpoint, "key=mine.pem"]  # and makes none
    assert commands("sigstore=true")["sign"] == ["sign", checkpoint, "sigstore=true"]
