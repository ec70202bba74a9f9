"""The analysis told: tables on the screen, the same ones as a page, all numbers as JSON."""

from typing import Any

from proofcard.reports import Section, markdown, percent
from proofcard.screen import in_markdown


def sections(told: dict[str, Any]) -> list[Section]:
    """The questions that this checkpoint answers, in their order."""
    found = [_bytes(told["bytes"]), _convergence(told["convergence"]), _datasets(told["datasets"])]
    if told["coverage"]:
        found.append(_coverage(told["coverage"]))
    if told["forcing"]:
        found += _forcing(told["forcing"])
    if told["against"]:
        found.append(_against(told["against"]))
    return found


def _bytes(told: dict[str, Any]) -> Section:
    rows = [
        [name, f"{kind['tensors']:,}", f"{kind['bytes']:,}", percent(kind["bytes"] / told["total"])]
        for name, kind in told["kinds"].items()
    ]
    rows.append(["all of them", "", f"{told['bytes']:,}", percent(told["share"])])
    said = (
        f"Calibration decides {told['bytes']:,} of {told['total']:,} bytes of tensors, "
        f"{percent(told['share'])}; all others follow from the weights."
    )
    return Section("What depends on calibration", said, ["tensors", "number", "bytes", "share"], rows)


def _convergence(told: dict[str, list[dict[str, float]]]) -> Section:
    marks = [point["samples"] for point in next(iter(told.values()))]
    rows = [
        [f"{count:,}", *(_near(points[mark]) for points in told.values())] for mark, count in enumerate(marks)
    ]
    half = next((mark for mark in range(len(marks) - 1, -1, -1) if 2 * marks[mark] <= marks[-1]), None)
    said = "In %: quantizers within 1% of their last amax / the smallest part of it that one had."
    if half is not None:
        later = sum(
            round((1 - points[half]["equal"]) * points[half]["quantizers"])
            for points in told.values()
            if points[half]["quantizers"]
        )
        every = sum(points[-1]["quantizers"] for points in told.values())
        said += f" After {marks[half]:,} samples {later:,} of {every:,} scales were still to change."
    return Section("How an amax converges", said, ["samples", *map(_short, told)], rows)


def _datasets(told: list[dict[str, Any]]) -> Section:
    groups = list(told[0]["near"])
    counted = "cold" in told[0]
    rows = [
        [
            each["dataset"],
            f"{each['sets']:,}",
            f"{each['sets_alone']:,}",
            *([f"{each['cold']:,}"] if counted else []),
            *(_near(each["near"][title]) for title in groups),
        ]
        for each in told
    ]
    best = max(told, key=lambda each: each["sets"])
    said = (
        f"{best['dataset']} reaches the amax of all in {best['sets']:,} quantizers, most of any. With one "
        "dataset alone, in %: quantizers within 1% of the amax of all / the smallest part of it."
    )
    header = ["dataset", "reaches", "it alone", *(["cold"] if counted else []), *map(_short, groups)]
    return Section("What datasets add to one another", said, header, rows)


def _coverage(told: dict[str, Any]) -> Section:
    rows = [
        [
            label,
            f"{told[name]:,.0f}",
            f"{told[name] / told['mean']:.2f}",
        ]
        for label, name in (
            ("coldest", "smallest"),
            ("10th percentile", "tenth_percentile"),
            ("median", "median"),
            ("mean", "mean"),
            ("hottest", "largest"),
        )
    ]
    rows += [[f"below {int(limit):,}", f"{count:,} experts", ""] for limit, count in told["below"].items()]
    least = told["mean_over_smallest"]
    coldest = "nothing at all" if least is None else f"{least:.1f} times less than the mean"
    said = (
        f"{told['experts']:,} experts, {told['positions']:,} positions through each layer. The coldest gets "
        f"{coldest} (the card assumes 10 at the 10th percentile), the hottest "
        f"{told['largest_over_mean']:.1f} times the mean. Slope of log positions over log rank: "
        f"{told['zipf']:.2f}."
    )
    return Section("How routers spread the tokens", said, ["expert", "positions", "of the mean"], rows)


def _forcing(told: dict[str, Any]) -> list[Section]:
    rows = [
        [_short(title), f"{near['quantizers']:,}", f"{near['unreached']:,}", *_spread(near)]
        for title, near in told["near"].items()
    ]
    header = ["inputs of", "number", "unreached", "equal", "within 1%", "within 5%", "median", "smallest"]
    said = "The amax of the router's own choices, as part of the one that every expert took of all tokens."
    by = [
        [_short(title), f"{near['from']:,}", f"{near['quantizers']:,}", *_spread(near)]
        for title, points in told["by_routed"].items()
        for near in points
    ]
    return [
        Section("What all experts change", said, header, rows),
        Section(
            "The same by the positions that the router had sent",
            "If the card's thresholds hold, the part is near 100% from 10,000 on.",
            ["inputs of", "from", "number", "equal", "within 1%", "within 5%", "median", "smallest"],
            by,
        ),
    ]


def _against(told: dict[str, Any]) -> Section:
    rows = [
        [
            _short(title),
            f"{one['quantizers']:,}",
            *(percent(one[name]) for name in ("equal", "within_1_percent", "within_5_percent")),
            *(f"{one[name]:.3f}" for name in ("smallest", "median", "largest")),
        ]
        for title, one in told.items()
    ]
    header = ["scales of", "number", "equal", "within 1%", "within 5%", "smallest", "median", "largest"]
    said = "Each exported amax divided by that of the other checkpoint."
    return Section("Against the other checkpoint", said, header, rows)


def _near(point: dict[str, float]) -> str:
    if not point["quantizers"]:
        return "–"
    return f"{100 * point['within_1_percent']:.0f} / {100 * point['smallest']:.0f}"


def _short(title: str) -> str:
    return title.removeprefix("inputs of ")


def _spread(near: dict[str, float]) -> list[str]:
    if not near["quantizers"]:
        return ["–"] * 5
    return [
        percent(near[name])
        for name in ("equal", "within_1_percent", "within_5_percent", "median", "smallest")
    ]


def page(found: list[Section], figures: list[str], name: str) -> str:
    """The same in Markdown, with the figures that stand beside it."""
    lines = [f"# Calibration of {in_markdown(name)}", "", *markdown(found), "## Figures", ""]
    lines += [f"![{figure}]({figure}.png)" for figure in figures]
    return "\n".join(lines) + "\n"
