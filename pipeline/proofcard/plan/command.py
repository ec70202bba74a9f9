"""`plan`: what a recipe will do and cost.

uv run proofcard plan recipe=…            # one recipe: inventory, work, memory, where the result fits
uv run proofcard plan a b                 # two recipes side by side: what differs, and what that changes
"""

from functools import partial
from pathlib import Path

from proofcard import outcome, tracking
from proofcard.config import QuantizeConfig, compose
from proofcard.disk import check_writable
from proofcard.errors import Usage, before_work
from proofcard.plan import compare, outline, show
from proofcard.plan.planning import planned

_REPORT = "report="


def run(arguments: list[str]) -> int:
    """Plan the requested recipes, print the plan, write it as JSON and track it. Returns 0.

    Raises:
        Usage: when the request is wrong, or the recipe could not do what it promises.
    """
    report = next((Path(word.removeprefix(_REPORT)) for word in arguments if word.startswith(_REPORT)), None)
    recipes = [word for word in arguments if "=" not in word]
    overrides = [word for word in arguments if "=" in word and not word.startswith(_REPORT)]
    if len(recipes) > 2:
        raise Usage(f"at most two recipes can be compared, not {', '.join(recipes)}")
    requests = [[f"recipe={name}", *overrides] for name in recipes] or [overrides]
    configs = [compose(QuantizeConfig, "config", each) for each in requests]
    first = configs[0]
    name = "-".join(config.recipe.name for config in configs)
    path = report or first.work_dir / "plans" / f"{name}.json"
    with before_work():
        check_writable(path.parent)
    plans = [planned(config, outline.describe(config.model)) for config in configs]
    document = plans[0] if len(plans) == 1 else compare.side_by_side(*plans)
    with tracking.opened(first.tracking, "plan", first.work_dir, name=f"plan {name}") as tracker:
        for config, made in zip(configs, plans, strict=True):
            prefix = f"{config.recipe.name}." if len(plans) > 1 else ""
            tracker.params({f"{prefix}{key}": value for key, value in config.identity().items()})
            numbers = compare.numbers(made)
            tracker.metrics({f"{prefix}size_gb": numbers["export_bytes"] / 1e9})
            tracker.numbers(numbers, f"plan/{prefix}numbers.json")
        outcome.deliver(document, path, partial(show.show, document), tracker, "plan")
    return 0
