"""Two plans side by side: what their configurations differ in, and what that changes."""

from typing import Any

from proofcard.config.compose import flatten
from proofcard.reports import differing


def numbers(plan: dict[str, Any]) -> dict[str, float]:
    """What can be compared and is worth a metric. Sizes in bytes, hours for each profile."""
    work, export = plan["work"], plan["export"]
    found = {
        "parameters": plan["model"]["parameters"],
        "quantizers_inserted": plan["quantizers"]["inserted"],
        "quantizers_enabled": plan["quantizers"]["enabled"],
        "export_tensors": export["tensors"],
        "export_bytes": export["bytes"],
        "download_bytes": plan["source"]["download"],
        "samples": work["samples"],
        "positions": work["positions"],
        "flop_routed": work["flop_routed"],
        "flop_forced": work["flop_forced"],
        "layerwise_disk_bytes": work["memory"]["layerwise_disk"],
    }
    if work["positions_per_expert"] is not None:
        found["positions_per_expert"] = work["positions_per_expert"]["seen"]
    for row in plan["serving"]:
        name = row["profile"].replace("×", "x").replace(":", "")
        found[f"weights_per_gpu_bytes/{name}"] = row["weights_per_gpu"]
        if row["calibration_floor_hours"] is not None:
            found[f"calibration_floor_hours/{name}"] = row["calibration_floor_hours"]
    return {name: float(value) for name, value in found.items()}


def side_by_side(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Every difference in configuration, every number that it changes, and both plans whole."""
    return {
        "recipes": [a["recipe"]["name"], b["recipe"]["name"]],
        "configuration": differing(flatten(a["config"]), flatten(b["config"])),
        "changes": differing(numbers(a), numbers(b)),
        "plans": [a, b],
    }
