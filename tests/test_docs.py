"""Blocks and pictures of the documentation that the program makes: current, and stale ones are named."""

import sys

import pytest
from running import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from docs import block, chain, commands, plans


def test_only_the_lines_between_the_marks_change() -> None:
    before = "# x\n<!-- a -->\nold\n<!-- /a -->\nrest\n"
    assert block(before, "a", "new\n") == "# x\n<!-- a -->\nnew\n<!-- /a -->\nrest\n"
    with pytest.raises(SystemExit, match="the marks <!-- b --> … <!-- /b --> are missing"):
        block(before, "b", "new\n")


def test_the_readme_lists_every_command_as_help_does() -> None:
    readme = (ROOT / "README.md").read_text()
    assert block(readme, "commands", commands()) == readme


def test_the_picture_of_the_chain_is_the_script_s() -> None:
    assert (ROOT / "docs/images/chain.svg").read_text() == chain()


def test_sizes_are_given_in_both_units() -> None:
    plan = {
        "config": {
            "calibration": {"datasets": {"a": {"samples": 2}, "b": {"samples": 3}}, "sequence_length": 4096},
            "coverage": {"name": "natural"}, "kv_cache": {"format": "fp8"},
        },
        "quantizers": {"inserted": 96165}, "source": {"download": 230e9}, "export": {"bytes": 134e9},
        "work": {"memory": {"layerwise_disk": 616e9, "hidden_states": 252e9, "layerwise_gpu": 15e9}},
    }  # fmt: skip
    table = plans({"minimax_m2_7_nvfp4": plan})
    assert "| Samples | 5 × 4,096 tokens |" in table
    assert "| Download | 230 GB (214 GiB) |" in table
    assert "| Quantizers | 96,165 |" in table
