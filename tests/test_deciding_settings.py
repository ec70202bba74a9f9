"""Every setting is in the key of a stage, or listed with the reason why it decides nothing."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from proofcard import deciding
from proofcard.config import QuantizeConfig, compose
from proofcard.config.schema import Calibration, Dataset, Part
from proofcard.manifest import key_of


@cache
def composed(*overrides: str) -> QuantizeConfig:
    return compose(QuantizeConfig, "config", list(overrides))


def keys(config: Any) -> dict[str, str]:
    return {stage: key_of(stage, said, {}, {}) for stage, said in deciding.settings(config).items()}


def paths(part: type[Part], prefix: str = "") -> set[str]:
    """Every setting of a schema, `*` for the name of a dataset."""
    found = set()
    for name, field in part.model_fields.items():
        path, kind = f"{prefix}{name}", field.annotation
        if name == "datasets":
            path, kind = f"{path}.*", Dataset
        nested = isinstance(kind, type) and issubclass(kind, Part)
        found |= {path} | (paths(kind, f"{path}.") if nested else set())
    return found


def test_what_is_listed_as_not_deciding_exists() -> None:
    assert set(deciding.NOT_DECIDING) <= paths(QuantizeConfig)
    assert all(deciding.NOT_DECIDING.values())


@pytest.mark.parametrize(
    "override",
    [
        "work_dir=/a", "output_dir=/b", "model.path=/c", "tracking.uri=http://d", "tracking=off",
        "hardware=cpu", "hardware.threads=7", "hardware.activation_memory_gib=1", "hardware.screen=off",
        "recipe.name=other", "recipe.summary=other", "model.name=other", "model.repository=a/b",
        "model.config=/d", "toolchain.series=fixed", "calibration.datasets.magpie_pro_mt.path=/e",
        "calibration.frozen=/f",
    ],
)  # fmt: skip
def test_where_and_for_whom_is_in_no_key(override: str) -> None:
    assert keys(composed(override)) == keys(composed())


@pytest.mark.parametrize(
    ("override", "stage"),
    [
        ("seed=5", "quantize"),
        ("model.attn_implementation=sdpa", "quantize"),
        ("quantization.dequantize_to=float32", "quantize"),
        ("quantization=nvfp4_mlp_only", "quantize"),
        ("coverage=natural", "quantize"),
        ("kv_cache=fp8_cast", "quantize"),
        ("engine=modelopt", "quantize"),
        ("calibration.batch_size=7", "quantize"),
        ("calibration.padding_side=right", "quantize"),
        ("calibration.pad_to=set", "quantize"),
        ("calibration.attention_mask=false", "quantize"),
        ("calibration.sampling.seed=43", "samples"),
        ("calibration.sequence_length=64", "samples"),
        ("calibration.chat_template=false", "samples"),
        ("calibration.datasets.magpie_pro_mt.samples=15", "samples"),
        ("calibration.datasets.magpie_pro_mt.splits=[test]", "samples"),
    ],
)
def test_every_other_setting_is_in_the_key_of_its_stage(override: str, stage: str) -> None:
    ours, others = keys(composed(override)), keys(composed())
    assert [name for name in ours if ours[name] != others[name]] == [stage]


def test_every_setting_is_in_a_key_or_listed() -> None:
    """Each leaf of the demo's composed configuration: changed, it changes a key unless it is listed."""
    config = composed()
    whole = config.model_dump(mode="json")
    before = keys(config)

    def walk(values: dict[str, Any], path: tuple[str, ...]) -> None:
        for name, value in list(values.items()):
            here = (*path, name)
            if isinstance(value, dict) and value:
                walk(value, here)
                continue
            values[name] = "changed"
            dumped = type("Other", (), {"model_dump": lambda self, mode: whole})()
            listed = any(covers(entry.split("."), here) for entry in deciding.NOT_DECIDING)
            assert (keys(dumped) == before) == listed, ".".join(here)
            values[name] = value

    def covers(entry: list[str], path: tuple[str, ...]) -> bool:
        return len(entry) <= len(path) and all(a in (b, "*") for a, b in zip(entry, path, strict=False))

    walk(whole, ())


def test_a_new_group_and_a_new_field_enter_a_key() -> None:
    class Smoothing(Part):
        strength: float
        where: Path

    grown = create_model("Grown", __base__=QuantizeConfig, smoothing=(Smoothing, ...))
    values = composed().model_dump()
    made = [
        keys(grown.model_validate(values | {"smoothing": {"strength": strength, "where": where}}))
        for strength, where in ((0.5, "/a"), (0.6, "/a"), (0.5, "/b"))
    ]
    assert made[0]["samples"] == made[1]["samples"] == keys(composed())["samples"]
    assert len({each["quantize"] for each in made} | {keys(composed())["quantize"]}) == 4

    wider = create_model("Wider", __base__=Calibration, shuffled=(bool, ...))
    grown = create_model("Grown", __base__=QuantizeConfig, calibration=(wider, ...))
    both = [values | {"calibration": values["calibration"] | {"shuffled": each}} for each in (True, False)]
    one, other = (keys(grown.model_validate(each)) for each in both)
    assert one["samples"] != other["samples"]
