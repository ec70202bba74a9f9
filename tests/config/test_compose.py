"""Every option of every group is taken whole by every recipe, and every mistake gets its sentence."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError

from proofcard.bundle import bundled
from proofcard.config import QuantizeConfig, ServeConfig, VerifyConfig, compose
from proofcard.config.benchmarking import BenchmarkConfig
from proofcard.config.schema import Part
from proofcard.errors import Usage

CONF = bundled("conf")
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name in QuantizeConfig.model_fields and path.parent.name != "recipe"
)


@cache
def composed(*overrides: str) -> QuantizeConfig:
    return compose(QuantizeConfig, "config", list(overrides))


def test_there_is_something_to_compose() -> None:
    assert {"demo", "minimax_m2_7_nvfp4"} <= set(RECIPES)
    assert len(OPTIONS) > 12


@cache
def values_of(group: str, option: str) -> Any:
    """What an option's file says, and nothing else."""
    alone = OmegaConf.load(CONF / group / f"{option}.yaml")
    if "defaults" not in alone:
        return OmegaConf.to_container(alone)
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return OmegaConf.to_container(hydra_compose(f"{group}/{option}"))[group]  # type: ignore[index]


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_option_on_the_command_line_is_taken_whole(recipe: str) -> None:
    """Every one, three of each group over every recipe: one of each group at a time."""
    groups: dict[str, list[str]] = {}
    for group, option in OPTIONS:
        groups.setdefault(group, []).append(option)
    most, place = max(map(len, groups.values())), RECIPES.index(recipe)
    assert len(RECIPES) + 2 >= most
    for number in range(place, place + 3):
        chosen = {group: options[number % len(options)] for group, options in groups.items()}
        words = [f"{group}={option}" for group, option in chosen.items()]
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            made: Any = OmegaConf.to_container(hydra_compose("config", [*words, f"recipe={recipe}"]))
        assert {group: made[group] for group in chosen} == {g: values_of(g, chosen[g]) for g in chosen}
        assert made["recipe"]["name"] == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_options_a_name_and_a_sentence(recipe: str) -> None:
    """A value of its own would outlive an option that is chosen on the command line."""
    said = yaml.safe_load((CONF / "recipe" / f"{recipe}.yaml").read_text())
    assert said.keys() == {"defaults", "recipe"}
    assert said["recipe"].keys() == {"name", "summary"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_options_and_a_value_win_over_a_recipe(recipe: str) -> None:
    chosen = ["calibration=text", "calibration.sequence_length=77", "coverage=natural"]
    config = composed("model.path=/data/model", *chosen, f"recipe={recipe}")
    text = values_of("calibration", "text") | {"sequence_length": 77}
    assert config.calibration.model_dump(mode="json") == text
    assert config.coverage.model_dump() == values_of("coverage", "natural")


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_one_that_can_be_taken(group: str, option: str) -> None:
    overrides = [f"{group}={option}"] + ["model.path=/data/model"] * (group == "model")
    if group == "toolchain" and option != "fixed":
        with pytest.raises(Usage, match=f"for {option} take engine=modelopt"):
            composed(*overrides)
        overrides.append("engine=modelopt")
    config = composed(*overrides)
    chosen = getattr(config, group)
    if group in ("kv_cache", "coverage", "engine"):
        assert option in (getattr(chosen, "format", None), getattr(chosen, "name", None))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_one_that_can_be_taken(recipe: str) -> None:
    assert composed(f"recipe={recipe}", "model.path=/data/model").recipe.name == recipe


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(Usage, match=r"ModelOpt has no coverage=top_up: use engine=layerwise"):
        composed("recipe=demo_recommended", "engine=modelopt")
    with pytest.raises(Usage, match=r"dataset text has plain text.*chat_template=false"):
        composed("calibration=text", "calibration.chat_template=true")


def test_an_unknown_adapter_names_those_that_there_are() -> None:
    with pytest.raises(
        Usage, match=r"datasets.text.adapter='txt': it must be one of cnn_dailymail, .*, text$"
    ):
        composed("calibration=text", "calibration.datasets.text.adapter=txt")


@pytest.mark.parametrize("schema", [QuantizeConfig, ServeConfig, BenchmarkConfig, VerifyConfig])
def test_no_setting_has_a_single_value(schema: type[Part]) -> None:
    """Such a setting would be read by nobody."""

    def look(part: type[Part]) -> None:
        for name, field in part.model_fields.items():
            assert get_origin(field.annotation) is not Literal or len(get_args(field.annotation)) > 1, name
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, Part):
                    look(kind)

    look(schema)


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
        ("+foo=3", "unknown key 'foo': choose one of model, calibration, "),
        ("seed=x", "seed='x': it must be a valid integer"),
        ("calibration.batch_size=0", "calibration.batch_size=0: it must be greater than or equal to 1"),
        (
            "kv_cache.format=fp9",
            "kv_cache.format='fp9': it must be 'fp8', 'fp8_affine', 'fp8_cast' or 'none'",
        ),
        ("demo", "'demo' is not an override: write key=value"),
        ("model=local", "model.path is needed: give model.path="),
        (
            "kv_cache=fp8,none",
            "kv_cache=fp8,none has several values, which need -m: proofcard quantize -m kv",
        ),
        (
            "seed=1,2",
            "seed=1,2 has several values, which need -m: proofcard quantize -m seed=1,2; if it is one",
        ),
        (
            "calibration.datasets.foo.path=x",
            "unknown key 'calibration.datasets.foo.path': calibration.datasets",
        ),
    ],
)
def test_a_mistake_names_the_nearest_right_thing(override: str, sentence: str) -> None:
    with pytest.raises(Usage) as stopped:
        composed(override)
    assert str(stopped.value).startswith(sentence)
    assert "\n" not in str(stopped.value)


def test_a_combination_that_cannot_work_says_what_would() -> None:
    with pytest.raises(Usage, match="use toolchain=fixed, or hardware=cuda"):
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
