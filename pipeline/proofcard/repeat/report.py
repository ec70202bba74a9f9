"""The result of `repeat` as tables."""

from proofcard.documents.repeat import Difference, RepeatReport
from proofcard.reports import Section

_TITLES = {"alone": "alone", "loaded": "under load"}


def sections(result: RepeatReport) -> list[Section]:
    """Both phases, and the different answers where there are several."""
    phases = [
        [
            _TITLES[name],
            str(each.requests),
            str(each.failed),
            str(each.distinct),
            f"{100 * each.same.value:.1f}% ({100 * each.same.low:.1f}..)" if each.same else "–",
            _place(each.first),
        ]
        for name, each in result.phases.items()
    ]
    caption = (
        f"{result.server.label}: one greedy request, at most {result.max_tokens} tokens; under load "
        f"{result.users} requests at a time. The same: as the most frequent answer, with the lower end of "
        f"the {result.confidence:.0%} interval."
    )
    header = ["phase", "requests", "failed", "distinct", "the same", "first difference"]
    listed = [Section(f"Repeatability: {result.finding}", caption, header, phases)]
    if len(result.variants) > 1:
        rows = [
            [each.sha256[:12], str(each.alone), str(each.loaded), str(each.characters), _place(each.first)]
            for each in result.variants[:20]
        ]
        header = ["sha256", "alone", "under load", "characters", "first difference"]
        listed.append(Section("Answers", "The most frequent first, at most 20.", header, rows))
    failures = [[_TITLES[n], each.first_failure] for n, each in result.phases.items() if each.first_failure]
    if failures:
        listed.append(Section("Failed", "The first failure of each phase.", ["phase", "why"], failures))
    return listed


def numbers(result: RepeatReport) -> dict[str, float]:
    """Every number with its interval, for MLflow."""
    flat = {"distinct": float(result.distinct)}
    for name, each in result.phases.items():
        flat |= {f"{name}/distinct": float(each.distinct), f"{name}/failed": float(each.failed)}
        if each.same is not None:
            flat |= {f"{name}/same": each.same.value, f"{name}/same_low": each.same.low}
            flat[f"{name}/same_high"] = each.same.high
        if each.first is not None:
            flat[f"{name}/first_character"] = float(each.first.character)
            if each.first.token is not None:
                flat[f"{name}/first_token"] = float(each.first.token)
    return flat


def _place(first: Difference | None) -> str:
    if first is None:
        return "–"
    return f"character {first.character}" if first.token is None else f"token {first.token}"
