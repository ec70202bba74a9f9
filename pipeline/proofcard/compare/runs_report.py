"""Two runs side by side, for the screen and as Markdown: causes, bytes, figures, and what explains what."""

from typing import Any

from proofcard import tracking_headlines
from proofcard.documents.run_comparison import Cause, Explanation, Metric, RunComparison, RunSide
from proofcard.reports import Section, markdown
from proofcard.screen import in_markdown

_SHOWN = 30  # causes in a table; the document has all
_FEW = 4  # causes in a sentence


def sections(told: RunComparison) -> list[Section]:
    """What explains what first, then its evidence."""
    found = [_explained(told), _causes(told.causes), _bytes(told)]
    if told.metrics:
        found.append(_metrics(told.metrics))
    return found


def page(told: RunComparison, found: list[Section]) -> str:
    """The report as Markdown."""
    who = [f"- {side}: {in_markdown(_name(each))}" for side, each in (("a", told.a), ("b", told.b))]
    return "\n".join(["# Two runs side by side", "", *who, "", *markdown(found)]) + "\n"


def _name(side: RunSide) -> str:
    run = f", run {side.run}" if side.run else ""
    return f"{side.name}, recipe {side.recipe}, key {side.key}{run}"


def _explained(told: RunComparison) -> Section:
    rows = [[one.outcome, _count(one), _why(one, told.causes)] for one in told.explanations]
    said = f"a is {told.a.name}, b is {told.b.name}."
    if told.a.key == told.b.key:
        said += " Both have one key: the same configuration, inputs and toolchain."
    return Section("What differs, and what can explain it", said, ["", "differ", "can be explained by"], rows)


def _count(one: Explanation) -> str:
    apart = f", at most {one.largest_ulp:,} ULP" if one.largest_ulp else ""
    return f"{one.differ:,} of {one.of:,}{apart}"


def _why(one: Explanation, causes: list[Cause]) -> str:
    if not one.of:
        return "not on both sides"
    if not one.differ:
        return "–"
    if one.by:
        more = f" and {len(one.by) - _FEW} more" if len(one.by) > _FEW else ""
        return ", ".join(one.by[:_FEW]) + more
    if one.outcome == "metrics":
        return "the measurement itself: every tensor is the same"
    return "nothing that is recorded: see verify for both" if causes else "nothing differs in their making"


def _causes(causes: list[Cause]) -> Section:
    rows = [[one.what, _short(one.a), _short(one.b), one.may_change] for one in causes[:_SHOWN]]
    said = f"{len(causes)} values differ in configuration, toolchain, data and platform."
    if len(causes) > _SHOWN:
        said += f" The first {_SHOWN} of them."
    return Section("What made them", said, ["", "a", "b", "may change"], rows)


def _bytes(told: RunComparison) -> Section:
    rows = [[one.role, f"{one.a:,}", f"{one.b:,}", f"{one.equal:,}"] for one in told.tensors]
    said = "Tensors by the digests in both manifests. "
    said += (
        f"Other files that differ: {', '.join(told.files)}." if told.files else "All other files are equal."
    )
    return Section("Bytes", said, ["tensors of", "a", "b", "equal"], rows)


def _metrics(metrics: list[Metric]) -> Section:
    rows = [[one.name, _figure(one.name, one.a), _figure(one.name, one.b), _change(one)] for one in metrics]
    said = "The headline figures of both checkpoints' runs in MLflow."
    return Section("Figures", said, ["", "a", "b", "b - a"], rows)


def _figure(name: str, value: float | None) -> str:
    return "–" if value is None else tracking_headlines.headline_of(name).written(value)


def _change(one: Metric) -> str:
    return "" if one.a is None or one.b is None else f"{one.b - one.a:+.3g}"


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) == 64:  # a digest
        return text[:12]
    return text if len(text) <= 40 else text[:39] + "…"
