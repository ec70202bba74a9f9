"""Two plans side by side: what their configurations differ in, and what that changes."""

from proofcard.config.compose import flatten
from proofcard.documents.plan import Plan, Plans
from proofcard.reports import differing


def numbers(plan: Plan) -> dict[str, float]:
    """What can be compared and is worth a metric. Sizes in bytes, hours for each profile."""
    work = plan.work
    chosen: dict[str, float] = {
        "parameters": plan.model.parameters,
        "quantizers_inserted": plan.quantizers.inserted,
        "quantizers_enabled": plan.quantizers.enabled,
        "export_tensors": plan.export.tensors,
        "export_bytes": plan.export.bytes,
        "download_bytes": plan.source.download,
        "samples": work.samples,
        "positions": work.positions,
        "flop_routed": work.flop_routed,
        "flop_forced": work.flop_forced,
        "layerwise_disk_bytes": work.memory.layerwise_disk,
    }
    if work.positions_per_expert is not None:
        chosen["positions_per_expert"] = work.positions_per_expert.seen
    for row in plan.serving:
        name = row.profile.replace("×", "x").replace(":", "")
        chosen[f"weights_per_gpu_bytes/{name}"] = row.weights_per_gpu
        if row.calibration_floor_hours is not None:
            chosen[f"calibration_floor_hours/{name}"] = row.calibration_floor_hours
        if row.evaluation_floor_hours is not None:
            chosen[f"evaluation_floor_hours/{name}"] = row.evaluation_floor_hours
    return {name: float(value) for name, value in chosen.items()}


def side_by_side(a: Plan, b: Plan) -> Plans:
    """Every difference in configuration, every number that it changes, and both plans whole."""
    return Plans(
        recipes=[a.recipe.name, b.recipe.name],
        configuration=differing(flatten(a.config), flatten(b.config)),
        changes=differing(numbers(a), numbers(b)),
        plans=[a, b],
    )
