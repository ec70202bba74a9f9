"""Every recipe composes with every option of every group, and every mistake gets its sentence."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from proofcard.bundle import bundled
from proofcard.config import QuantizeConfig, VerifyConfig, compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.errors import Usage

CONF = bundled("conf")
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name in QuantizeConfig.model_fields and path.parent.name != "recipe"
)


def composed(*overrides: str) -> QuantizeConfig:
    return compose(QuantizeConfig, "config", list(overrides))


def test_there_is_something_to_compose() -> None:
    assert {"demo", "minimax_m2_7_nvfp4"} <= set(RECIPES)
    assert len(OPTIONS) > 12


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_recipe_with_every_option(recipe: str, group: str, option: str) -> None:
    overrides = [f"recipe={recipe}", f"{group}={option}", "model.path=/data/model"]
    if group == "calibration" and option in ("text", "cnn_dailymail"):
        # plain texts have no messages: a recipe that asks for the chat template refuses them by name
        with pytest.raises(Usage, match="chat_template=false") as refused:
            composed(*overrides, "calibration.chat_template=true")
        assert f"dataset {option}" in str(refused.value)
        overrides.append("calibration.chat_template=false")
    if group == "toolchain" and option != "fixed":
        with pytest.raises(Usage, match=f"for {option} take engine=modelopt"):
            composed(*overrides)
        overrides.append("engine=modelopt")
    topped_up = recipe.endswith("_recommended") and group != "coverage"
    if topped_up and "engine=modelopt" in overrides:
        with pytest.raises(Usage, match=r"ModelOpt has no coverage=top_up: take engine=layerwise"):
            composed(*overrides)
        overrides.append("coverage=all_experts")
    config = composed(*overrides)
    assert config.recipe.name == recipe
    chosen = getattr(config, group)
    if hasattr(chosen, "format"):
        assert chosen.format == option


def test_the_default_is_the_demo() -> None:
    assert composed() == composed("recipe=demo")


def test_the_card_s_table_is_in_its_recipe() -> None:
    config = composed("recipe=minimax_m2_7_nvfp4")
    calibration = config.calibration
    assert [dataset.samples for dataset in calibration.datasets.values()] == [1000] * 5
    assert (calibration.sampling.seed, calibration.sampling.buffer_size) == (42, 10000)
    assert (calibration.sequence_length, calibration.batch_size) == (4096, 4)
    assert calibration.chat_template
    assert config.coverage.name == "all_experts"
    assert config.kv_cache.format == "fp8_affine"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("calibration.sampling.sed=3", "unknown key 'calibration.sampling.sed': did you mean "),
        ("quantisation=x", "unknown key 'quantisation': did you mean 'quantization'?"),
        ("+kv_cache.frmat=fp8", "unknown key 'kv_cache.frmat': did you mean 'kv_cache.format'?"),
        ("kv_cache=fp9", "kv_cache=fp9 does not exist: did you mean 'fp8'?"),
        ("recipe=minimax", "recipe=minimax does not exist: did you mean 'minimax_m2_7_nvfp4'?"),
        ("+foo=3", "unknown key 'foo': it is one of model, calibration, "),
        ("seed=x", "seed='x': should be a valid integer"),
        ("calibration.batch_size=0", "calibration.batch_size=0: should be greater than or equal to 1"),
        ("kv_cache.format=fp9", "kv_cache.format='fp9': should be 'fp8', 'fp8_affine', 'fp8_cast' or 'none'"),
        ("demo", "'demo' is not an override: write key=value"),
        ("model=local", "model.path is needed: give model.path="),
    ],
)
def test_a_mistake_names_the_nearest_right_thing(override: str, sentence: str) -> None:
    with pytest.raises(Usage) as stopped:
        composed(override)
    assert str(stopped.value).startswith(sentence)
    assert "\n" not in str(stopped.value)


def test_a_combination_that_cannot_work_says_what_would() -> None:
    with pytest.raises(Usage, match="take toolchain=fixed, or hardware=cuda"):
        composed("hardware=cpu", "toolchain=as_published")


def test_verify_needs_a_checkpoint() -> None:
    with pytest.raises(Usage, match="checkpoint is needed: give checkpoint="):
        compose(VerifyConfig, "verify", [])
    config = compose(VerifyConfig, "verify", ["checkpoint=/x", "levels=[structure,weights]"])
    assert config.levels == ("structure", "weights")


def test_the_configuration_is_frozen() -> None:
    config = composed()
    with pytest.raises(ValidationError, match="frozen"):
        config.calibration.batch_size = 8  # type: ignore[misc]


def test_where_things_are_never_says_what_they_are() -> None:
    here = composed("work_dir=/a", "output_dir=/b", "model.path=/c", "tracking.uri=http://d", "hardware=cpu")
    assert here.identity() == composed().identity()
    assert here.model.path == Path("/c")
    assert "/" not in str(here.identity()["model"])
    assert composed("seed=5").identity() != composed().identity()


def test_benchmarks_model_is_a_name_though_a_group_is_called_so():
    words = ["endpoint=http://127.0.0.1:1/v1", "tokenizer=x", "model=meta-llama/Llama-3"]
    assert compose(BenchmarkConfig, "benchmark", words).model == "meta-llama/Llama-3"
