"""Numbers and figures of what no small model gives: 62 layers of 256 experts, cold ones, none at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantize.test_plots import gathered, records

from proofcard import manifest
from proofcard.analyse import command, measure, report
from proofcard.compare import calibration
from proofcard.documents import Manifest


def sealed() -> Manifest:
    """A manifest with one tensor."""
    tensor = {"file": "x", "shape": [], "dtype": "F32", "sha256": "0" * 64}
    return manifest.sealed(
        {
            "schema": manifest.SCHEMA, "stage": "quantize", "key": "0" * 64, "inputs": {}, "seeds": {},
            "config": {"recipe": {"name": "r"}}, "toolchain": {}, "platform": {}, "statistics": {},
            "outputs": {
                "files": {"x": {"size": 4, "sha256": "0" * 64}}, "tensors": {"a.input_scale": tensor}
            },
        }
    )  # fmt: skip


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # of what other tests left
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(records(62, 256), id="real"),
        pytest.param(records(1, 1, cold=False), id="one of everything"),
        pytest.param([record | {"routed": {}, "forced": {}} for record in records(2, 4)], id="no experts"),
    ],
)
def test_everything_is_told_and_drawn(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    for record in made:
        record["forced"] = {block: [9] * len(counts) for block, counts in record["forced"].items()}
    found = gathered(made)
    sections = report.sections(command.analysed(sealed(), found))
    assert all(len(row) == len(section.header) for section in sections for row in section.rows)
    for name, draw in command.drawings(found).items():
        draw().savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    assert all(one.equal == 1 for one in calibration.scales(found, found).values())


def test_a_cold_expert_is_unreached_and_counted() -> None:
    made = records(2, 4)
    made[1]["forced"] = {block: [9] * 4 for block in made[1]["forced"]}
    for quantizer in range(6, 9):  # expert 2 of layer 1, which only forced tokens reached
        for point in made[1]["curve"]:
            point[quantizer] = 1.0
    told = measure.forcing(gathered(made))
    assert told is not None and sum(near.unreached for near in told.near.values()) == 3
    spread = measure.coverage(gathered(made))
    assert spread is not None and spread.mean_over_smallest is None


def test_checkpoints_of_two_models_are_not_compared() -> None:
    assert calibration.scales(gathered(records(2, 4)), gathered(records(2, 5))) == {}


def test_a_zipf_spread_has_the_slope_of_zipf() -> None:
    counts = np.round(1e9 / np.arange(1, 257)).astype(np.int64)
    assert measure._slope(counts) == pytest.approx(-1, abs=1e-6)
