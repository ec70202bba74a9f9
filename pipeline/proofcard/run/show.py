"""The plan of a chain before it begins, and what it took once it has ended."""

from collections.abc import Mapping, Sequence

from proofcard.config.running import STAGES, StageName
from proofcard.disk import free_at
from proofcard.documents.plan import Plan
from proofcard.documents.run import Run
from proofcard.grid import Grid
from proofcard.progress import shown
from proofcard.run import estimates
from proofcard.run.request import Request
from proofcard.run.target import Target
from proofcard.screen import Screen
from proofcard.units import duration, size

_WHAT: dict[StageName, str] = {
    "plan": "what it will do and cost",
    "fetch": "model and samples from the hub",
    "quantize": "the sealed checkpoint",
    "verify": "every byte proved against the source",
    "analyse": "what calibration decided",
    "serve": "known answers",
    "benchmark": "tokens per second",
    "evaluate": "what quantization cost",
    "audit": "our own claims checked",
    "card": "the model card",
    "sign": "signature and provenance",
}


def plan(
    request: Request,
    target: Target,
    told: Plan,
    not_started: Mapping[StageName, str],
    out: Screen,
) -> None:
    """Every stage with its time and its disk, or why it is not started as `not_started` says."""
    recipe = request.recipe.recipe
    times = estimates.times(request, told)
    out.print(f"recipe={recipe.name}: {recipe.summary}", soft_wrap=True)
    table = Grid("stage", "time", "disk", "what", left=(0, 3))
    space, unknown = 0, []
    to_do = [stage for stage in STAGES if stage not in not_started]
    for stage in STAGES:
        if stage in not_started:
            table.add_row(stage, "", "", not_started[stage])
            continue
        taken, seconds = estimates.disk(stage, request, told), times.seconds.get(stage)
        space += taken or 0
        unknown += [stage] if seconds is None else []
        time = "?" if seconds is None else duration(seconds / 3600)
        table.add_row(stage, time, size(taken) if taken else "", _WHAT[stage])
    for part in ("", table, ""):
        out.print(part)
    known = sum(times.seconds.get(stage, 0) for stage in to_do)
    made = shown(target.folder) if target.key else f"{shown(target.folder)}, its key after fetch"
    last = [
        ("time", _time(known, times.origin, to_do, unknown)),
        ("disk", f"up to {size(space)}, {size(free_at(request.recipe.work_dir))} free"),
        ("checkpoint", made),
    ]
    lines(last, out)


def _time(known: float, origin: str, to_do: Sequence[StageName], unknown: Sequence[StageName]) -> str:
    if not to_do:
        return "everything is there"
    if len(unknown) == len(to_do):
        return "not known before the first run"
    without = f", not counting {', '.join(unknown)}" if unknown else ""
    return f"about {duration(known / 3600)} ({origin}){without}"


def times(run: Run, out: Screen) -> None:
    """What became of each stage, in seconds."""
    table = Grid("stage", "seconds", "what became of it", left=(0, 2))
    for stage in run.stages:
        seconds = f"{stage.seconds:.1f}" if stage.seconds else ""
        why = f"{stage.state}: {stage.why}" if stage.why else stage.state
        table.add_row(stage.name, seconds, why)
    table.add_section()
    table.add_row("all", f"{sum(stage.seconds for stage in run.stages):.1f}", "")
    for part in ("", table, ""):
        out.print(part)


def lines(rows: Sequence[tuple[str, str]], out: Screen) -> None:
    """The last lines, one for each label."""
    for label, text in rows:
        out.print(f"{label:<12} {text}", soft_wrap=True)
