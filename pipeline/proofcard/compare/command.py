"""`compare`: what two checkpoints of one model differ in, as a table to read and a report to cite."""

from pathlib import Path
from typing import Any

from proofcard import manifest, tracking
from proofcard.compare import content, report, tensors
from proofcard.config import CompareConfig, compose
from proofcard.config.compose import flatten
from proofcard.digest import readable_json
from proofcard.errors import Stop, before_work
from proofcard.files import check_handed
from proofcard.progress import shown
from proofcard.quantize import sealed_tables, tables
from proofcard.reports import differing, place, show, writing
from proofcard.screen import Screen

SCHEMA = "proofcard/comparison/1"
NUMBERS = "comparison.json"
_PAGE = "report.md"


def run(overrides: list[str]) -> int:
    """Compose, compare, write and show. Returns 0, whether something differs or not.

    Raises:
        Usage: when there is nothing to compare or the report has nowhere to stand; nothing was done then.
    """
    config = compose(CompareConfig, "compare", overrides)
    with before_work():
        target = place(config.report, config.a, f"against.{config.b.absolute().name}", NUMBERS)
        told = _numbers(config.a, config.b)
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
    show(sections, Screen())
    Screen().print(f"report and numbers: {shown(target)}", soft_wrap=True)
    return 0


def _numbers(a: Path, b: Path) -> dict[str, Any]:
    """Everything compared, as JSON values.

    Raises:
        Stop: when a side is no checkpoint.
    """
    sealed = [_sealed(side) for side in (a, b)]
    one, other = content.read(a), content.read(b)
    groups = tensors.held(one.tensors, other.tensors, (one.tensor_sha256, other.tensor_sha256))
    altered = [now.altered(side) if side else [] for now, side in zip((one, other), sealed, strict=True)]
    said = [flatten(side["config"]) if side else {} for side in sealed]
    return {
        "schema": SCHEMA,
        "a": _who(a, sealed[0]) | {"altered": altered[0]},
        "b": _who(b, sealed[1]) | {"altered": altered[1]},
        "tensors": [
            {"role": key[0], "dtype_a": key[1], "dtype_b": key[2]} | group.told()
            for key, group in groups.items()
        ],
        "files": _files(one.others(), other.others()),
        "configuration": differing(said[0], said[1]) if all(sealed) else [],
        "statistics": differing(*(side["statistics"] if side else {} for side in sealed)),
        "coverage": [
            _coverage(side, said, changed)
            for side, said, changed in zip((a, b), sealed, altered, strict=True)
        ],
    }


def _files(a: dict[str, str], b: dict[str, str]) -> list[dict[str, Any]]:
    """The files whose sha256 differ, with both; null where a side has none."""
    names = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return [{"name": name, "a": a.get(name), "b": b.get(name)} for name in names]


def _sealed(folder: Path) -> dict[str, Any] | None:
    """The manifest, if somebody sealed it."""
    if not folder.is_dir():
        raise Stop(f"{folder} is no folder: give a checkpoint")
    check_handed(folder)
    try:
        return manifest.read(folder)
    except manifest.NeverSealed:
        return None


def _who(folder: Path, sealed: dict[str, Any] | None) -> dict[str, Any]:
    if sealed is None:
        return {"name": folder.absolute().name, "recipe": None, "key": None}
    recipe = manifest.recipe_name(sealed)
    return {"name": folder.absolute().name, "recipe": recipe, "key": sealed["key"]}


def _coverage(folder: Path, sealed: dict[str, Any] | None, altered: list[str]) -> dict[str, int] | None:
    """Positions that an expert and layer saw, where the checkpoint carries the table as it was sealed."""
    needed = {tables.COVERAGE, tables.AMAX, tables.DATASETS}
    if sealed is None or not needed <= sealed["outputs"]["files"].keys() or needed & set(altered):
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
