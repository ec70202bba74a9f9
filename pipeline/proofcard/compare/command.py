"""`compare`: what two checkpoints of one model differ in, as a table to read and a report to cite."""

from pathlib import Path
from typing import Any

from rich.console import Console

from proofcard import manifest, tracking
from proofcard.checkpoint.tensors import read_folder
from proofcard.compare import report, tensors
from proofcard.config import CompareConfig, compose
from proofcard.config.compose import flatten
from proofcard.digest import readable_json
from proofcard.errors import Stop, Usage
from proofcard.progress import shown
from proofcard.quantize import sealed_tables, tables
from proofcard.reports import differing, place, show, writing

SCHEMA = "proofcard/comparison/1"
NUMBERS = "comparison.json"
_PAGE = "report.md"


def run(overrides: list[str]) -> int:
    """Compose, compare, write and show. Returns 0, whether something differs or not.

    Raises:
        Usage: when there is nothing to compare or the report has nowhere to stand; nothing was done then.
    """
    config = compose(CompareConfig, "compare", overrides)
    try:
        target = place(config.report, config.a, f"against.{config.b.absolute().name}", NUMBERS)
        told = _numbers(config.a, config.b)
    except Stop as stop:
        raise Usage(str(stop)) from None
    sections = report.sections(told)
    with (
        tracking.opened(config.tracking, "compare", config.work_dir) as tracker,
        tracker.stage("compare"),
    ):
        with writing(target) as fresh:
            (fresh / _PAGE).write_text(report.page(told, sections), encoding="utf-8")
            (fresh / NUMBERS).write_text(readable_json(told), encoding="utf-8")
        tracker.tags({f"{side}.key": str(told[side]["key"]) for side in "ab"})
        for name in (_PAGE, NUMBERS):
            tracker.file(target / name, "comparison")
    show(sections, Console(highlight=False))
    print(f"report and numbers: {shown(target)}")
    return 0


def _numbers(a: Path, b: Path) -> dict[str, Any]:
    """Everything compared, as JSON values.

    Raises:
        Stop: when a side is no checkpoint.
    """
    sealed = [_sealed(side) for side in (a, b)]
    known = tuple(_digests(side) for side in sealed)
    groups = tensors.held(read_folder(a), read_folder(b), (known[0], known[1]))
    said = [flatten(side["config"]) if side else {} for side in sealed]
    return {
        "schema": SCHEMA,
        "a": _who(a, sealed[0]),
        "b": _who(b, sealed[1]),
        "tensors": [
            {"role": key[0], "dtype_a": key[1], "dtype_b": key[2]} | group.told()
            for key, group in groups.items()
        ],
        "configuration": differing(said[0], said[1]) if all(sealed) else [],
        "statistics": differing(*(side["statistics"] if side else {} for side in sealed)),
        "coverage": [_coverage(side, said) for side, said in zip((a, b), sealed, strict=True)],
    }


def _sealed(folder: Path) -> dict[str, Any] | None:
    """The manifest, if somebody sealed it."""
    if not folder.is_dir():
        raise Stop(f"{folder} is no folder: give a checkpoint")
    return manifest.read(folder) if (folder / manifest.NAME).exists() else None


def _digests(sealed: dict[str, Any] | None) -> dict[str, str]:
    return {name: said["sha256"] for name, said in sealed["outputs"]["tensors"].items()} if sealed else {}


def _who(folder: Path, sealed: dict[str, Any] | None) -> dict[str, Any]:
    if sealed is None:
        return {"name": folder.absolute().name, "recipe": None, "key": None}
    recipe = sealed["config"].get("recipe", {}).get("name")
    return {"name": folder.absolute().name, "recipe": recipe, "key": sealed["key"]}


def _coverage(folder: Path, sealed: dict[str, Any] | None) -> dict[str, int] | None:
    """Positions that an expert and layer saw, where the checkpoint carries the table."""
    if sealed is None or not (folder / tables.COVERAGE).exists():
        return None
    experts = sealed_tables.read(folder, sealed["statistics"].get("positions", 0)).experts
    routed = [int(count) for block in experts for count in block.routed]
    forced = [int(count) for block in experts for count in block.forced]
    return {
        "experts": len(routed),
        "cold": sum(count == 0 for count in routed),
        "routed_smallest": min(routed),
        "routed_mean": round(sum(routed) / len(routed)),
        "routed_largest": max(routed),
        "forced_experts": sum(count > 0 for count in forced),
        "forced_largest": max(forced),
    }
