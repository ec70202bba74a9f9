"""`compare RUN RUN`: two runs by what is recorded of them, and which difference can explain which."""

import re
from functools import partial

from proofcard import outcome, tracking
from proofcard.compare import causes, explaining, lookup, runs_report
from proofcard.compare.lookup import Named
from proofcard.config import CompareConfig, compose
from proofcard.disk import check_writable
from proofcard.documents.run_comparison import Metric, RunComparison, RunSide
from proofcard.errors import Usage, before_work
from proofcard.reports import show

NUMBERS = "run-comparison.json"


def run(names: list[str], overrides: list[str]) -> int:
    """Look both up, compare, write and show. Returns 0, whether something differs or not.

    Raises:
        Usage: when there are not two runs, or one of them is not found; nothing was done then.
    """
    if len(names) != 2:
        raise Usage(f"compare takes two runs, not {len(names)}: proofcard compare RUN RUN, or a=DIR b=DIR")
    config = compose(CompareConfig, "compare", ["a=a", "b=b", *overrides])
    with before_work():
        with lookup.store(config.tracking, config.work_dir) as store:
            places = [lookup.located(name, config.work_dir, store) for name in names]
        a, b = (lookup.read(place, config.tracking, config.work_dir) for place in places)
    comparison = compared(a, b)
    with before_work():
        title = ".against.".join(re.sub(r"[^\w.-]+", "-", side.name)[:100] for side in (a, b))
        target = config.report or config.work_dir / "comparisons" / title
        check_writable(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
    sections = runs_report.sections(comparison)
    with tracking.opened(
        config.tracking, "compare", config.work_dir, name=f"compare {title}"[:250]
    ) as tracker:
        tracker.tags({"a.key": comparison.a.key, "b.key": comparison.b.key})
        outcome.deliver_folder(
            comparison, target, NUMBERS, partial(show, sections), tracker, "comparison",
            page=runs_report.page(comparison, sections),
        )  # fmt: skip
    return 0


def compared(a: Named, b: Named) -> RunComparison:
    """Everything that is recorded of both, compared."""
    made = causes.between(a.values, b.values, (a.measured, b.measured))
    outputs = (a.values["outputs"], b.values["outputs"])
    metrics = [
        Metric(name=name, a=a.metrics.get(name), b=b.metrics.get(name))
        for name in sorted(a.metrics.keys() | b.metrics.keys())
    ]
    return RunComparison(
        a=_side(a),
        b=_side(b),
        causes=made,
        tensors=explaining.roles(*outputs),
        files=explaining.files(*outputs),
        metrics=metrics,
        explanations=explaining.explanations(*outputs, made, metrics),
    )


def _side(one: Named) -> RunSide:
    recipe = one.values["config"].get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else None
    return RunSide(name=one.name, recipe=name, key=one.values["key"], run=one.run)
