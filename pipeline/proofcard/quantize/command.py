"""`quantize`: the whole pipeline from a recipe's name to a sealed checkpoint.

    uv run proofcard quantize                 # recipe=demo
    uv run proofcard quantize recipe=…

Every problem with a request is reported before the first sample is drawn.
"""

from typing import Any

from proofcard import joining, outcome, tracking, tracking_headlines
from proofcard.config import QuantizeConfig, compose
from proofcard.documents.manifest import Manifest
from proofcard.pasted import command
from proofcard.progress import console, shown
from proofcard.quantize import naming, planning, stages
from proofcard.quantize.checkpoint_stage import Plan
from proofcard.ranks import Ranks
from proofcard.screen import Screen, on_one_line
from proofcard.units import counted, size

_REAL = "minimax_m2_7_nvfp4"


def run(overrides: list[str]) -> int:
    """Compose the overrides and `execute` the configuration. Returns 0."""
    return execute(compose(QuantizeConfig, "config", overrides))


def execute(config: QuantizeConfig) -> int:
    """Check, draw samples, quantize, seal; print where the result is. Returns 0.

    Raises:
        Usage: before any work, when something about the request is wrong.
        Stop: when the work itself fails.
    """
    with joining.joined(config.hardware.device) as team:
        return _execute(config, team)


def _execute(config: QuantizeConfig, team: Ranks) -> int:
    recipe = config.recipe
    other = f"; the real one: recipe={_REAL}" if recipe.name == "demo" else ""
    if team.leads:
        console.print(f"recipe={recipe.name}: {recipe.summary}{other}", soft_wrap=True)
    config, plan = planning.agreed(config, team)
    if team.leads and plan.checkpoint is None:
        console.print(planning.disk(config, plan.source), soft_wrap=True)
    run = tracking.opened(
        config.tracking, "quantize", config.work_dir, leads=team.leads, makes=True,
        subject=tracking.Subject(plan.key, recipe.name),
    )  # fmt: skip
    with run as tracker:
        tracker.configuration(config.identity())
        checkpoint = stages.made(config, plan, tracker, team)
        if checkpoint is not None:
            tracker.checkpoint(checkpoint, made=True)
            tracker.headlines(tracking_headlines.of_manifest(checkpoint))
    if team.leads:
        assert checkpoint is not None
        named = naming.name_latest(config, plan.final)
        lines = _summary(config, plan, checkpoint)
        outcome.present(checkpoint, lambda out: _show(lines | {"name": named}, out))
    team.wait()  # the first rank to end would have some launchers end the others
    return 0


def _summary(config: QuantizeConfig, plan: Plan, sealed: Manifest) -> dict[str, str]:
    """What was made, and what to do with it; lines without text are omitted."""
    files, said = sealed.outputs.files, sealed.statistics
    assert config.model.path is not None
    final, source = shown(plan.final), shown(config.model.path)
    return {
        "checkpoint": f"{final} ({'reused' if plan.checkpoint else 'made'})",
        "key": sealed.key,
        "size": f"{size(sum(file.size for file in files.values()))} in {counted(len(files), 'file')}",
        "tensors": f"{said['tensors']}, {said['quantizers']} quantizers calibrated",
        "samples": f"{said['samples']}, {said['tokens']:,} tokens: {shown(plan.samples_dir)}",
        "coverage": _coverage(said),
        "prove it": command("verify", checkpoint=final, source=source),
    }


def _show(lines: dict[str, str], out: Screen) -> None:
    for label, text in lines.items():
        if text:
            out.print(f"{label:12} {on_one_line(text)}", soft_wrap=True)


def _coverage(said: dict[str, Any]) -> str:
    """How the routers distributed the samples, if the engine counted it and there are experts."""
    if "experts" not in said:
        return ""
    spread = f"{said['routed_positions_smallest']}..{said['routed_positions_largest']}"
    return f"{spread} routed positions per expert and layer, {said['experts_cold']} of {said['experts']} cold"
