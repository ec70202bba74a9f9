"""What each dataset is said to have given, held to a run with that dataset alone."""

from pathlib import Path

from quantize.test_statistics import DATASETS, amaxes, rows
from running import quantize


def test_a_dataset_s_amax_and_counts_are_those_of_a_run_with_it_alone(demo: Path, tmp_path: Path) -> None:
    *others, last = DATASETS
    alone = quantize(tmp_path, *(f"~calibration.datasets.{name}" for name in others))
    of_each = rows(demo, "calibration_datasets.csv")
    assert {row["quantizer"]: float(row[f"amax@{last}"]) for row in of_each} == amaxes(alone, "amax@16")
    first = {row["quantizer"]: float(row[f"amax@{DATASETS[0]}"]) for row in of_each}
    assert first == amaxes(demo, "amax@16")  # its samples come first
    of_experts = rows(demo, "calibration_coverage.csv")
    counted = [row[f"routed@{last}"] for row in of_experts]
    assert counted == [row["routed_positions"] for row in rows(alone, "calibration_coverage.csv")]
    assert all(
        int(row["routed_positions"]) == sum(int(row[f"routed@{name}"]) for name in DATASETS)
        for row in of_experts
    )
