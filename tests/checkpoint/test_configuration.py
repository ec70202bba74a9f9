"""A checkpoint's own word on its quantization, wherever it says it."""

import json
from pathlib import Path
from typing import Any

import pytest

from proofcard.checkpoint.configuration import (
    declared,
    quantization_of,
    read_config,
    read_quantization,
    read_settings,
)
from proofcard.errors import Stop

NVFP4 = {"quant_algo": "nvfp4", "quant_method": "ModelOpt"}


@pytest.mark.parametrize(
    ("config", "quantization", "expected"),
    [
        ({}, {}, ("", "")),
        ({"quantization_config": NVFP4}, {}, ("NVFP4", "modelopt")),
        ({"quantization_config": {"quantization": NVFP4}}, {}, ("NVFP4", "modelopt")),
        ({"text_config": {"quantization_config": NVFP4}}, {}, ("NVFP4", "modelopt")),
        ({}, {"quantization": {"quant_algo": "NVFP4"}}, ("NVFP4", "")),
        ({"quantization_config": {"quant_method": "fp8"}}, {"quantization": 7}, ("", "fp8")),
        ({"quantization_config": [], "text_config": "x"}, {}, ("", "")),
    ],
)
def test_the_quantization_is_found_wherever_it_is_declared(
    config: dict[str, Any], quantization: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert declared(config, quantization) == expected


def test_infinity_is_a_number_and_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"config\.json"):
        read_config(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path)
    assert read_quantization(tmp_path) == {}
    (tmp_path / "config.json").write_text('{"limit": Infinity}')
    assert read_config(tmp_path) == {"limit": float("inf")}
    (tmp_path / "hf_quant_config.json").write_text("[")
    with pytest.raises(Stop, match="hf_quant_config"):
        read_quantization(tmp_path)


def test_a_part_that_is_no_object_is_refused(tmp_path: Path) -> None:
    assert quantization_of({"quantization_config": None}, tmp_path) == {}
    with pytest.raises(Stop):
        quantization_of(json.loads('{"quantization_config": [1]}'), tmp_path)
