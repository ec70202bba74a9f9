"""The result of `tasks` as tables."""

from proofcard.documents.tasks import Range, TaskResult, TasksReport
from proofcard.reports import Section


def sections(result: TasksReport) -> list[Section]:
    """The scores, what the differences amount to, and why each verdict is what it is."""
    confidence = f"{result.policy['confidence']:.0%}"
    scores = [
        [
            name,
            f"{each.questions}×{each.repeats}" if each.repeats > 1 else str(each.questions),
            f"{100 * each.reference.value:.1f}",
            f"{100 * each.candidate.value:.1f}",
            f"{100 * each.difference.value:+.1f}",
            f"{100 * each.difference.low:+.1f} {100 * each.difference.high:+.1f}",
            f"{100 * each.recovery.value:.1f}" if each.recovery else "–",
            each.verdict,
        ]
        for name, each in result.tasks.items()
    ]
    header = ["task", "n", "ref.", "cand.", "diff.", "interval", "recov.", "verdict"]
    pairs = [
        [
            name,
            _share(each.reference),
            _share(each.candidate),
            str(each.lost),
            str(each.gained),
            f"{each.mcnemar_p:.3g}",
            f"{100 * each.detectable:.2f}",
            f"{100 * each.margin:.2f}",
        ]
        for name, each in result.tasks.items()
    ]
    caption = (
        f"Reference: {result.reference.label}. Candidate: {result.candidate.label}. Scores and recovery in "
        f"percent, differences in points with their {confidence} interval."
    )
    listed = [
        Section(f"Tasks: {result.verdict}", caption, header, scores),
        Section(
            "Question by question",
            "The intervals of both scores; questions answered worse and better than before, McNemar's exact "
            "p; what loss so many questions would have shown with "
            f"{result.policy['power']:.0%} power, and the margin, in points.",
            ["task", "ref.", "cand.", "lost", "gained", "p", "shows", "margin"],
            pairs,
        ),
        Section(
            "Reasons",
            f"The policy is {result.policy['name']}.",
            ["task", "why"],
            [[name, why] for name, each in result.tasks.items() for why in each.reasons],
        ),
    ]
    if published := [_published(name, each) for name, each in result.tasks.items() if each.published]:
        listed.append(Section("Published", "What others have printed.", ["task", "values"], published))
    if result.not_run:
        listed.append(
            Section(
                "Not run", "Tasks of this set.", ["task", "why"], [list(x) for x in result.not_run.items()]
            )
        )
    return listed


def numbers(result: TasksReport) -> dict[str, float]:
    """Every number with its interval, for MLflow."""
    flat: dict[str, float] = {}
    for name, each in result.tasks.items():
        ranges = {
            "reference": each.reference, "candidate": each.candidate, "difference": each.difference
        }  # fmt: skip
        if each.recovery is not None:
            ranges["recovery"] = each.recovery
        for what, value in ranges.items():
            flat[f"{name}/{what}"] = value.value
            flat[f"{name}/{what}_low"], flat[f"{name}/{what}_high"] = value.low, value.high
        flat[f"{name}/lost"], flat[f"{name}/gained"] = float(each.lost), float(each.gained)
        flat[f"{name}/mcnemar_p"], flat[f"{name}/detectable"] = each.mcnemar_p, each.detectable
        flat[f"{name}/questions"], flat[f"{name}/missing"] = float(each.questions), float(each.missing)
        for side, ends in each.outcomes.items():
            for how, count in ends.items():
                flat[f"{name}/{side}_{how}"] = float(count)
    return flat


def _published(name: str, each: TaskResult) -> list[str]:
    return [name, ", ".join(f"{what} {value:.3f}" for what, value in each.published.items())]


def _share(value: Range) -> str:
    return f"{100 * value.low:.1f}..{100 * value.high:.1f}"
