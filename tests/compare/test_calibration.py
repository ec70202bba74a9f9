"""Coverage and scales of two calibrations side by side."""

from pathlib import Path

import numpy as np
from quantize.test_plots import gathered, records
from running import ROOT

from proofcard import manifest
from proofcard.compare import calibration
from proofcard.compare.calibration import coverage, scales

GOLDEN = ROOT / "tests" / "golden" / "manifest-1" / "checkpoint"


def test_coverage_counts_every_expert_of_every_layer() -> None:
    found = gathered(records(2, 4))
    seen = coverage(found)
    routed = np.concatenate([block.routed for block in found.experts])
    assert seen is not None
    assert (seen.experts, seen.routed_largest, seen.cold) == (8, routed.max(), (routed == 0).sum())
    assert coverage(gathered([record | {"routed": {}, "forced": {}} for record in records(2, 4)])) is None


def test_scales_are_b_s_divided_by_a_s() -> None:
    a, b = gathered(records(2, 4)), gathered(records(2, 4))
    b.exported[:] = 2 * a.exported
    assert {(one.smallest, one.largest, one.equal) for one in scales(a, b).values()} == {(2.0, 2.0, 0.0)}
    a.exported[0] = 0
    assert sum(one.quantizers for one in scales(a, b).values()) == len(a.names) - 1


def test_a_checkpoint_without_its_tables_as_sealed_tells_nothing(tmp_path: Path) -> None:
    assert calibration.read(tmp_path, None, []) is None
    assert calibration.read(GOLDEN, manifest.read(GOLDEN), ["calibration_amax.csv"]) is None
