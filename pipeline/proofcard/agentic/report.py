"""The result of `agentic` as tables."""

from proofcard.documents.agentic import AgenticReport
from proofcard.reports import Section


def sections(result: AgenticReport) -> list[Section]:
    """Each task of each run, and what the runs came to."""
    listed = [
        [
            name if number == 1 else f"{name}, run {number}",
            each.phase,
            "passed" if each.passed else "FAILED",
            str(each.replies),
            f"{each.repaired}/{each.failed_runs}",
            str(each.unknown_tools + each.malformed),
        ]
        for number, run in enumerate(result.runs, 1)
        for name, each in run.tasks.items()
    ]
    score = result.score
    caption = (
        f"{result.server.label}: {100 * score.value:.1f}% of the tasks passed, {result.confidence:.0%} "
        f"interval {100 * score.low:.1f} to {100 * score.high:.1f}. Repaired: own programs that failed "
        "and then ran, of those that failed. Bad calls: of unknown tools, or not JSON."
    )
    header = ["task", "phase", "result", "replies", "repaired", "bad calls"]
    runs = [
        [
            str(number),
            f"{run.passed} of {len(run.tasks)}",
            f"{run.at_the_end} of {len(run.tasks)}",
            str(len(run.files)),
            f"{sum(run.files.values()):,}",
            f"{sum(each.tokens for each in run.tasks.values()):,}",
        ]
        for number, run in enumerate(result.runs, 1)
    ]
    failed = [
        [f"{name}, run {number}", each.why + ("; it passes at the end" if each.at_the_end else "")]
        for number, run in enumerate(result.runs, 1)
        for name, each in run.tasks.items()
        if not each.passed
    ]
    return [
        Section(f"Agentic: {result.name}", caption, header, listed),
        Section(
            "Runs",
            "At the end: tasks whose checks pass in the finished workspace. Tokens as the server counts.",
            ["run", "passed", "at the end", "files", "lines", "tokens"],
            runs,
        ),
        *([Section("Failed", "Why each failed task did.", ["task", "why"], failed)] if failed else []),
    ]


def numbers(result: AgenticReport) -> dict[str, float]:
    """Every number, for MLflow."""
    score = result.score
    flat = {"score": score.value, "score_low": score.low, "score_high": score.high}
    every = [each for run in result.runs for each in run.tasks.values()]
    counted = ("replies", "calls", "unknown_tools", "malformed", "failed_runs", "repaired", "tokens")
    flat |= {name: float(sum(getattr(each, name) for each in every)) for name in counted}
    for name in result.runs[0].tasks:
        flat[f"passed/{name}"] = sum(run.tasks[name].passed for run in result.runs) / len(result.runs)
    return flat
