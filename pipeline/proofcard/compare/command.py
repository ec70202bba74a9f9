"""`compare`: what two checkpoints of one model differ in, as a table to read and a report to cite."""

from functools import partial
from pathlib import Path

from proofcard import manifest, outcome, tracking
from proofcard.checkpoint.source import Source
from proofcard.compare import calibration, closeness, content, of_runs, report, tensors
from proofcard.config import CompareConfig, compose
from proofcard.config.compose import flatten
from proofcard.documents.comparison import Comparison, FileDifference, Side, TensorGroup
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop, before_work
from proofcard.files import check_handed
from proofcard.hub_cache import name_in_cache
from proofcard.reports import differing, place, show
from proofcard.tracking_home import store_of

NUMBERS = "comparison.json"


def run(overrides: list[str]) -> int:
    """Compose, compare, write and show. Returns 0, whether something differs or not.

    Raises:
        Usage: when there is nothing to compare or the report has nowhere to stand; nothing was done then.
    """
    if names := [word for word in overrides if "=" not in word]:
        return of_runs.run(names, [word for word in overrides if word not in names])
    config = compose(CompareConfig, "compare", overrides)
    with before_work():
        target = place(config.report, config.a, f"against.{_name(config.b)}", NUMBERS, config.work_dir)
        comparison = compared(config.a, config.b, config.source)
    sections = report.sections(comparison)
    title = " with ".join(
        f"{each.recipe or 'checkpoint'}-{each.key[:8]}" if each.key else each.name
        for each in comparison.sides()
    )
    with tracking.opened(
        store_of(config.a, config.tracking, config.work_dir), "compare", config.work_dir,
        name=f"compare {title}",
    ) as tracker:  # fmt: skip
        tracker.tags(
            {f"{side}.key": str(each.key) for side, each in zip("ab", comparison.sides(), strict=True)}
        )
        outcome.deliver_folder(
            comparison, target, NUMBERS, partial(show, sections), tracker, "comparison",
            page=report.page(comparison, sections),
        )  # fmt: skip
    return 0


def _name(folder: Path) -> str:
    """What a checkpoint is called in the name of a report."""
    return name_in_cache(folder) or folder.absolute().name


def compared(a: Path, b: Path, source: Path | None = None) -> Comparison:
    """Everything compared, and how close either is to `source`, if there is one.

    Raises:
        Stop: when a side or the source is no checkpoint.
    """
    folders = (a, b)
    origin = Source(source) if source is not None else None
    sealed = [_sealed(folder) for folder in folders]
    one, other = content.read(a), content.read(b)
    groups = tensors.held(one.tensors, other.tensors, (one.tensor_sha256, other.tensor_sha256))
    altered = [now.altered(side) if side else [] for now, side in zip((one, other), sealed, strict=True)]
    configured = [flatten(side.config) if side else {} for side in sealed]
    found = [calibration.read(*each) for each in zip(folders, sealed, altered, strict=True)]
    return Comparison(
        a=_side(a, sealed[0], altered[0]),
        b=_side(b, sealed[1], altered[1]),
        tensors=[
            TensorGroup(role=role, dtype_a=dtype_a, dtype_b=dtype_b, **group.counts())
            for (role, dtype_a, dtype_b), group in groups.items()
        ],
        files=_files(one.others(), other.others()),
        configuration=differing(*configured) if all(sealed) else [],
        statistics=differing(*(side.statistics if side else {} for side in sealed)),
        coverage=[calibration.coverage(each) if each else None for each in found],
        scales=calibration.scales(found[0], found[1]) if found[0] and found[1] else {},
        weights=closeness.between(one.tensors, other.tensors, origin)
        if origin is not None or any(group.differ for group in groups.values())
        else None,
    )


def _files(a: dict[str, str], b: dict[str, str]) -> list[FileDifference]:
    """The files whose sha256 differ, with both."""
    names = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return [FileDifference(name=name, a=a.get(name), b=b.get(name)) for name in names]


def _sealed(folder: Path) -> Manifest | None:
    """The manifest, if somebody sealed it."""
    if not folder.is_dir():
        raise Stop(f"{folder} is not a folder: use a checkpoint")
    check_handed(folder)
    try:
        return manifest.read(folder)
    except manifest.NeverSealed:
        return None


def _side(folder: Path, sealed: Manifest | None, altered: list[str]) -> Side:
    name = folder.absolute().name
    if sealed is None:
        return Side(name=name, recipe=None, key=None, altered=altered)
    return Side(name=name, recipe=sealed.recipe, key=sealed.key, altered=altered)
