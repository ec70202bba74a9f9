"""The analysis as tables and sentences, for the screen and as a page."""

from proofcard.documents.analysis import (
    Analysis,
    CalibratedBytes,
    DatasetPart,
    Forcing,
    Mark,
    Nearness,
    Spread,
)
from proofcard.reports import Section, markdown, percent
from proofcard.screen import in_markdown

_PARTS = ["equal", "within 1%", "within 5%", "median", "smallest"]


def sections(analysis: Analysis) -> list[Section]:
    """The questions that this checkpoint answers, in their order."""
    answers = [_bytes(analysis.bytes), _convergence(analysis.convergence), _datasets(analysis.datasets)]
    if analysis.coverage is not None:
        answers.append(_coverage(analysis.coverage))
    if analysis.forcing is not None:
        answers += _forcing(analysis.forcing)
    return answers


def _bytes(counted: CalibratedBytes) -> Section:
    rows = [
        [name, f"{kind.tensors:,}", f"{kind.bytes:,}", percent(kind.bytes / counted.total)]
        for name, kind in counted.kinds.items()
    ]
    rows.append(["all of them", "", f"{counted.bytes:,}", percent(counted.share)])
    answer = (
        f"Calibration decides {counted.bytes:,} of {counted.total:,} bytes of tensors, "
        f"{percent(counted.share)}; all others follow from the weights."
    )
    return Section("What depends on calibration", answer, ["tensors", "number", "bytes", "share"], rows)


def _convergence(groups: dict[str, list[Mark]]) -> Section:
    marks = [point.samples for point in next(iter(groups.values()))]
    rows = [
        [f"{count:,}", *(_near(points[mark]) for points in groups.values())]
        for mark, count in enumerate(marks)
    ]
    half = next((mark for mark in range(len(marks) - 1, -1, -1) if 2 * marks[mark] <= marks[-1]), None)
    answer = "In %: quantizers within 1% of their last amax / the smallest part of it that one had."
    if half is not None:
        at_half = [points[half] for points in groups.values()]
        later = sum(round((1 - each.equal) * each.quantizers) for each in at_half if each.equal is not None)
        every = sum(points[-1].quantizers for points in groups.values())
        answer += f" After {marks[half]:,} samples {later:,} of {every:,} scales were still to change."
    return Section("How an amax converges", answer, ["samples", *map(_short, groups)], rows)


def _datasets(parts: list[DatasetPart]) -> Section:
    groups = list(parts[0].near)
    counted = parts[0].cold is not None
    rows = [
        [
            each.dataset,
            f"{each.sets:,}",
            f"{each.sets_alone:,}",
            *([f"{each.cold:,}"] if counted else []),
            *(_near(each.near[title]) for title in groups),
        ]
        for each in parts
    ]
    best = max(parts, key=lambda each: each.sets)
    answer = (
        f"{best.dataset} reaches the amax of all in {best.sets:,} quantizers, most of any. With one "
        "dataset alone, in %: quantizers within 1% of the amax of all / the smallest part of it."
    )
    header = ["dataset", "reaches", "it alone", *(["cold"] if counted else []), *map(_short, groups)]
    return Section("What datasets add to one another", answer, header, rows)


def _coverage(spread: Spread) -> Section:
    rows = [
        [label, f"{value:,.0f}", f"{value / spread.mean:.2f}"]
        for label, value in (
            ("coldest", spread.smallest),
            ("10th percentile", spread.tenth_percentile),
            ("median", spread.median),
            ("mean", spread.mean),
            ("hottest", spread.largest),
        )
    ]
    rows += [[f"below {int(limit):,}", f"{count:,} experts", ""] for limit, count in spread.below.items()]
    least = spread.mean_over_smallest
    coldest = "nothing at all" if least is None else f"{least:.1f} times less than the mean"
    answer = (
        f"{spread.experts:,} experts, {spread.positions:,} positions through each layer. The coldest gets "
        f"{coldest} (the card assumes 10 at the 10th percentile), the hottest "
        f"{spread.largest_over_mean:.1f} times the mean. Slope of log positions over log rank: "
        f"{spread.zipf:.2f}."
    )
    return Section("How routers spread the tokens", answer, ["expert", "positions", "of the mean"], rows)


def _forcing(forcing: Forcing) -> list[Section]:
    rows = [
        [_short(title), f"{near.quantizers:,}", f"{near.unreached:,}", *_spread(near)]
        for title, near in forcing.near.items()
    ]
    answer = "The amax of the router's own choices, as part of the one that every expert took of all tokens."
    by = [
        [_short(title), f"{near.from_:,}", f"{near.quantizers:,}", *_spread(near)]
        for title, points in forcing.by_routed.items()
        for near in points
    ]
    return [
        Section("What all experts change", answer, ["inputs of", "number", "unreached", *_PARTS], rows),
        Section(
            "The same by the positions that the router had sent",
            "If the card's thresholds hold, the part is near 100% from 10,000 on.",
            ["inputs of", "from", "number", *_PARTS],
            by,
        ),
    ]


def _near(point: Nearness) -> str:
    if point.within_1_percent is None or point.smallest is None:
        return "–"
    return f"{100 * point.within_1_percent:.0f} / {100 * point.smallest:.0f}"


def _short(title: str) -> str:
    return title.removeprefix("inputs of ")


def _spread(near: Nearness) -> list[str]:
    parts = (near.equal, near.within_1_percent, near.within_5_percent, near.median, near.smallest)
    return ["–" if part is None else percent(part) for part in parts]


def page(found: list[Section], figures: list[str], name: str) -> str:
    """The same in Markdown, with the figures that stand beside it."""
    lines = [f"# Calibration of {in_markdown(name)}", "", *markdown(found), "## Figures", ""]
    lines += [f"![{figure}]({figure}.png)" for figure in figures]
    return "\n".join(lines) + "\n"
