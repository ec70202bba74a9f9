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

_OWN = ("report", "details")
"""Keys that are the plan's own; all others are overrides of the recipe."""


def run(arguments: list[str]) -> int:
    """Plan the requested recipes, print the plan, write it as JSON and track it. Returns 0.

    Raises:
        Usage: when the request is wrong, or the recipe could not do what it promises.
    """
    own = {key: value for key, _, value in (word.partition("=") for word in arguments) if key in _OWN}
    recipes = [word for word in arguments if "=" not in word]
    overrides = [word for word in arguments if "=" in word and word.partition("=")[0] not in _OWN]
    details = _details(own.get("details", "false"))
    if len(recipes) > 2:
        raise Usage(f"at most two recipes can be compared, not {', '.join(recipes)}")
    requests = [[f"recipe={name}", *overrides] for name in recipes] or [overrides]
    configs = [compose(QuantizeConfig, "config", each) for each in requests]
    first = configs[0]
    name = "-".join(config.recipe.name for config in configs)
    path = Path(own["report"]) if "report" in own else first.work_dir / "plans" / f"{name}.json"
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
        outcome.deliver(document, path, partial(show.show, document, details=details), tracker, "plan")
    return 0


def _details(value: str) -> bool:
    if value not in ("true", "false"):
        raise Usage(f"details={value}: it must be true or false")
    return value == "true"
