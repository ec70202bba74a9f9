"""Tables and figures of records that no small model gives: 62 layers of 256 experts, cold ones, none."""

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import contents

from proofcard.calibration.batches import Batch
from proofcard.digest import canonical_json
from proofcard.quantize import plots, sealed_tables, statistics, tables

BLOCK = "model.layers.{}.block_sparse_moe"
SAMPLES = [2**n for n in range(12)] + [2500]


def records(layers: int, experts: int, cold: bool = True) -> list[dict[str, Any]]:
    """Records as the engine keeps them; every second layer has a cold expert, two quantizers each."""
    random = np.random.default_rng(5)
    made = []
    for layer in range(layers):
        names = [
            f"{BLOCK.format(layer)}.experts.{n}.{part}.input_quantizer"
            for n in range(experts)
            for part in ("w1", "w2", "w3")
        ]
        names += [f"model.layers.{layer}.self_attn.{kind}_bmm_quantizer" for kind in "kv"]
        curve = np.maximum.accumulate(random.lognormal(size=(13, len(names))).astype(np.float32), axis=0)
        routed = random.integers(1, 10**6, experts)
        if cold and layer % 2:
            routed[experts // 2] = 0
            curve[:, experts // 2 * 3 : experts // 2 * 3 + 3] = 0
        made.append(
            {
                "quantizers": names,
                "amax": (curve[-1] + np.float32(0.1)).tolist(),
                "curve": curve.tolist(),
                "datasets": [curve[6].tolist(), curve[-1].tolist()],
                "natural": curve[6].tolist(),
                "routed": {BLOCK.format(layer): [(routed // 2).tolist(), (routed - routed // 2).tolist()]},
                "forced": {BLOCK.format(layer): [0] * experts},
            }
        )
    return made


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def gathered(made: list[dict[str, Any]]) -> statistics.CalibrationStatistics:
    ones = np.ones((4, 512), np.int64)
    return statistics.gather(made, [Batch(ones, ones, "code"), Batch(ones, ones, "math")], SAMPLES)


def test_a_resumed_run_writes_the_same_tables(tmp_path: Path) -> None:
    made = records(3, 4)
    reread = json.loads(canonical_json(made))
    for name, each in (("once", made), ("resumed", made[:1] + reread[1:])):
        (tmp_path / name).mkdir()
        tables.write(tmp_path / name, gathered(each))
    assert contents(tmp_path / "once") == contents(tmp_path / "resumed")


def test_amaxes_are_written_to_the_last_bit(tmp_path: Path) -> None:
    made = records(2, 3)
    tables.write(tmp_path, gathered(made))
    table = rows(tmp_path / "calibration_amax.csv")
    said = np.array([[float(row[f"amax@{count}"]) for count in SAMPLES] for row in table])
    kept = np.concatenate([np.array(record["curve"]).T for record in made])
    assert np.array_equal(said, kept)
    assert np.array_equal(said.astype(np.float32), kept.astype(np.float32))


def test_what_is_read_back_is_what_was_found(tmp_path: Path) -> None:
    found = gathered(records(3, 4))
    tables.write(tmp_path, found)
    read = sealed_tables.read(tmp_path, found.positions)
    for field in fields(found):
        if field.name != "experts":
            np.testing.assert_array_equal(getattr(read, field.name), getattr(found, field.name))
    for mine, theirs in zip(read.experts, found.experts, strict=True):
        for field in fields(mine):
            np.testing.assert_array_equal(getattr(mine, field.name), getattr(theirs, field.name))


def test_the_tables_of_the_real_model_stay_below_30_megabytes(tmp_path: Path) -> None:
    written = tables.write(tmp_path, gathered(records(62, 256)))
    assert len(rows(tmp_path / "calibration_amax.csv")) == 47_740
    assert len(rows(tmp_path / "calibration_coverage.csv")) == 62 * 256
    assert sum(table.stat().st_size for table in written) < 30e6


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # of what other tests left
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(records(62, 64), id="wide"),
        pytest.param(records(1, 1, cold=False), id="one of everything"),
        pytest.param(records(2, 4)[:1] + records(2, 7)[1:], id="layers of different width"),
        pytest.param([record | {"routed": {}, "forced": {}} for record in records(2, 4)], id="no experts"),
    ],
)
def test_every_figure_has_titles_and_labels(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    found = gathered(made)
    drawn = {name: draw(found) for name, draw in plots.figures(found).items()}
    assert drawn.keys() == {"amax", "convergence"} | ({"coverage"} if found.experts else set())
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert figure.get_suptitle()
        for chart in figure.axes:
            assert chart.get_xlabel() or chart.get_ylabel() or chart.get_title()
