"""What two checkpoints carry of their calibration, side by side: coverage of experts, and exported scales."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from proofcard.documents.comparison import Coverage, ScaleRatio
from proofcard.documents.manifest import Manifest
from proofcard.quantize import sealed_tables, tables
from proofcard.quantize.metrics import quantizer_groups
from proofcard.quantize.statistics import CalibrationStatistics


def read(folder: Path, sealed: Manifest | None, altered: Collection[str]) -> CalibrationStatistics | None:
    """The tables of a checkpoint; None unless it carries them as they were sealed."""
    needed = {tables.COVERAGE, tables.AMAX, tables.DATASETS}
    if sealed is None or not needed <= sealed.outputs.files.keys() or needed & set(altered):
        return None
    return sealed_tables.read(folder, sealed.statistics.get("positions", 0))


def coverage(found: CalibrationStatistics) -> Coverage | None:
    """Positions that an expert and layer saw; None without experts."""
    routed = [int(count) for block in found.experts for count in block.routed]
    forced = [int(count) for block in found.experts for count in block.forced]
    if not routed:
        return None
    return Coverage(
        experts=len(routed),
        cold=sum(count == 0 for count in routed),
        routed_smallest=min(routed),
        routed_mean=round(sum(routed) / len(routed)),
        routed_largest=max(routed),
        forced_experts=sum(count > 0 for count in forced),
        forced_largest=max(forced),
    )


def scales(a: CalibrationStatistics, b: CalibrationStatistics) -> dict[str, ScaleRatio]:
    """The exported amaxes of b divided by those of a, by group; empty when the quantizers are others.

    Quantizers whose amax is 0 on a side, which nothing reached, are left out.
    """
    if a.names != b.names:
        return {}
    ratio = np.divide(b.exported, a.exported, out=np.zeros_like(b.exported), where=a.exported > 0)
    groups = ((title, ratio[chosen & (ratio > 0)]) for title, chosen in quantizer_groups(a))
    return {title: _ratio(values) for title, values in groups if values.size}


def _ratio(values: np.ndarray) -> ScaleRatio:
    return ScaleRatio(
        quantizers=int(values.size),
        equal=float((values == 1).mean()),
        within_1_percent=float((abs(values - 1) <= 0.01).mean()),
        within_5_percent=float((abs(values - 1) <= 0.05).mean()),
        smallest=float(values.min()),
        median=float(np.median(values)),
        largest=float(values.max()),
    )
