"""The comparison told: a few sentences with the numbers, and their tables."""

from typing import Any

from proofcard.compare import closer
from proofcard.documents.base import Difference
from proofcard.documents.comparison import Comparison, ScaleRatio, Side, TensorGroup
from proofcard.reports import Section, markdown, percent
from proofcard.screen import in_markdown
from proofcard.units import counted


def sections(told: Comparison) -> list[Section]:
    """What differs in tensors, files, configuration, samples and coverage, in this order.

    Before all of it, what is not what was sealed: a key says nothing of that.
    """
    found = [_altered(told)] if any(side.altered for side in told.sides()) else []
    found.append(_tensors(told))
    if told.files:
        found.append(_files(told))
    if told.configuration:
        found.append(_values("Configuration", told.configuration))
    if told.statistics:
        found.append(_values("What calibration saw", told.statistics))
    if all(told.coverage):
        a, b = (side.values() for side in told.coverage if side is not None)
        rows = [[name.replace("_", " "), f"{a[name]:,}", f"{b[name]:,}"] for name in a]
        said = "Positions, padding included, that an expert of a layer saw."
        found.append(Section("Coverage", said, ["", "a", "b"], rows))
    if told.scales:
        found.append(_scales(told.scales))
    if told.weights is not None:
        found += closer.sections(told.weights)
    return found


def page(told: Comparison, found: list[Section]) -> str:
    """The report as Markdown."""
    who = [f"- {side}: {in_markdown(_name(each))}" for side, each in zip("ab", told.sides(), strict=True)]
    return "\n".join(["# Two checkpoints side by side", "", *who, "", *markdown(found)]) + "\n"


def _name(side: Side) -> str:
    if side.key is None:
        return f"{side.name} (not sealed)"
    return f"{side.name}, recipe {side.recipe}, key {side.key}"


def _tensors(told: Comparison) -> Section:
    groups = told.tensors
    both = [group for group in groups if group.dtype_a and group.dtype_b]
    alike = sum(group.tensors - group.differ for group in both)
    said = (
        f"{alike:,} of {sum(group.tensors for group in groups):,} tensors are equal to the last bit; "
        f"a has {sum(group.bytes_a for group in groups):,} bytes of tensors, "
        f"b {sum(group.bytes_b for group in groups):,}."
    )
    for side, alone in (
        ("a", sum(group.tensors for group in groups if not group.dtype_b)),
        ("b", sum(group.tensors for group in groups if not group.dtype_a)),
    ):
        if alone:
            said += f" {alone:,} tensors are in {side} alone."
    if recast := [group for group in both if group.dtype_a != group.dtype_b]:
        many, rounded = sum(group.tensors for group in recast), sum(group.rounded for group in recast)
        said += f" {many:,} have another dtype; {rounded:,} of them agree when rounded to BF16."
    said += " Bytes: the share of a's that differ. ULP: the largest distance in units of the last place."
    header = ["tensors of", "dtype", "number", "differ", "bytes", "ULP", "b / a"]
    return Section("Tensors", said, header, [_row(group) for group in groups])


def _scales(scales: dict[str, ScaleRatio]) -> Section:
    rows = [
        [
            title.removeprefix("inputs of "),
            f"{one.quantizers:,}",
            *map(percent, (one.equal, one.within_1_percent, one.within_5_percent)),
            *(f"{value:.3f}" for value in (one.smallest, one.median, one.largest)),
        ]
        for title, one in scales.items()
    ]
    header = ["scales of", "number", "equal", "within 1%", "within 5%", "smallest", "median", "largest"]
    return Section("Scales of calibration", "Each exported amax of b divided by that of a.", header, rows)


def _altered(told: Comparison) -> Section:
    rows = [
        [name, side, each.name]
        for side, each in zip("ab", told.sides(), strict=True)
        for name in each.altered
    ]
    said = (
        "These files have changed since they were sealed, or are gone: the checkpoint is no longer the one "
        "of its key. What follows is about the bytes that are there now; verify says more."
    )
    return Section("Not what was sealed", said, ["file", "side", "folder"], rows)


def _files(told: Comparison) -> Section:
    rows = []
    for each in told.files:
        how = "differs" if each.a and each.b else "in a alone" if each.a else "in b alone"
        rows.append([each.name, how])
    return Section("Other files", f"{counted(len(rows), 'file differs', 'files differ')}.", ["", ""], rows)


def _row(group: TensorGroup) -> list[str]:
    dtypes = [dtype.removeprefix("F8_") or "–" for dtype in (group.dtype_a, group.dtype_b)]
    compared = dtypes[0] == dtypes[1]
    share = percent(group.bytes_differ / max(group.bytes_a, 1))
    ratio = group.ratio
    return [
        group.role,
        dtypes[0] if compared else " → ".join(dtypes),
        f"{group.tensors:,}",
        f"{group.differ:,}",
        share if compared else "–",
        f"{group.steps:.1e}" if group.steps > 9999 else str(group.steps or ""),
        f"{ratio.smallest:.2f}..{ratio.largest:.2f}" if ratio else "",
    ]


def _values(title: str, differing: list[Difference]) -> Section:
    rows = [[each.name, _short(each.a), _short(each.b)] for each in differing]
    return Section(title, f"{counted(len(rows), 'value differs', 'values differ')}.", ["", "a", "b"], rows)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
