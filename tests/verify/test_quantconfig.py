"""What config.json and hf_quant_config.json say of the quantization, and whether they agree."""

from pathlib import Path
from typing import Any

import pytest
from verify.making import edit_json

from proofcard.verify.quantconfig import read

MODEL, QUANT = "config.json", "hf_quant_config.json"


def test_both_files_of_modelopt_agree(checkpoint: Path) -> None:
    said = read(checkpoint)
    assert said.findings == [] and said.unknown == []
    assert (said.algorithm, said.cache, said.group_size, said.file) == ("NVFP4", "FP8", 16, QUANT)


def test_either_file_is_enough(checkpoint: Path) -> None:
    both = read(checkpoint)
    (checkpoint / QUANT).unlink()
    alone = read(checkpoint)
    assert (alone.algorithm, alone.cache, sorted(alone.patterns)) == ("NVFP4", "FP8", sorted(both.patterns))
    assert alone.file == MODEL


@pytest.mark.parametrize(
    "change",
    [
        lambda quant: quant["quantization"].update(group_size=32),
        lambda quant: quant["quantization"].update(exclude_modules=["lm_head"]),
        lambda quant: quant["quantization"].update(kv_cache_quant_algo=None),
    ],
)
def test_files_that_disagree_are_a_finding(checkpoint: Path, change: Any) -> None:
    edit_json(checkpoint / QUANT, change)
    assert read(checkpoint).findings


def test_a_part_that_is_no_object_and_a_missing_config_are_findings(checkpoint: Path) -> None:
    edit_json(checkpoint / MODEL, lambda config: config.update(quantization_config=[]))
    assert {each.file for each in read(checkpoint).findings} >= {MODEL}
    (checkpoint / MODEL).unlink()
    assert [each.kind for each in read(checkpoint).findings if each.file == MODEL] == ["missing"]


def test_a_key_that_nobody_here_knows_is_told(checkpoint: Path) -> None:
    edit_json(checkpoint / QUANT, lambda quant: quant["quantization"].update(rotation="hadamard"))
    assert any("rotation" in sentence for sentence in read(checkpoint).unknown)
