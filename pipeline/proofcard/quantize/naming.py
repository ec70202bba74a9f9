"""The name `<work_dir>/checkpoints/<recipe>`: it belongs to what the unmodified recipe makes.

What was reported beside the name is about the checkpoint that it named. Where the name passes to another one,
as after a new version of this program, those reports get the name with the former key.
"""

import os
import re
from pathlib import Path

from proofcard.config import QuantizeConfig, compose
from proofcard.deciding import settings
from proofcard.errors import Usage
from proofcard.progress import shown


def name_latest(config: QuantizeConfig, final: Path) -> str:
    """Point the recipe's name to the checkpoint `final`, if it is the unmodified recipe's.

    Returns a sentence where the name stays with another checkpoint or leaves one, otherwise nothing.
    """
    name = final.parent / config.recipe.name
    former = name.readlink().name if name.is_symlink() else None
    if config.output_dir is not None or former == final.name:
        return ""
    if not _unmodified(config):
        keeps = f" stays with {former}" if former else " is not made"
        return f"{shown(name)}{keeps}: the name is for recipe={config.recipe.name} without other settings"
    fresh = final.parent / f".{final.name}.{os.getpid()}.link"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(final.name)
    if former is None:
        fresh.replace(name)
        return ""
    moved = _move_reports(name, former)
    fresh.replace(name)
    reports = f"; reports about that one are now {former}.*" if moved else ""
    return f"{shown(name)} is this checkpoint from now on, and no longer {former}{reports}"


def _unmodified(config: QuantizeConfig) -> bool:
    """Whether every setting that decides bytes is the recipe's own; what it leaves open may be filled in."""
    try:
        recipe = compose(QuantizeConfig, "config", [f"recipe={config.recipe.name}", "tracking=off"])
    except Usage:  # it cannot be composed without further settings
        return True
    return _fills(settings(recipe), settings(config))


def _fills(recipe: object, config: object) -> bool:
    if isinstance(recipe, dict) and isinstance(config, dict):
        return recipe.keys() == config.keys() and all(_fills(recipe[key], config[key]) for key in recipe)
    return recipe is None or recipe == config


def _move_reports(name: Path, former: str) -> bool:
    """Rename what lies beside the name as `<name>.<suffix>`. Returns whether there was anything."""
    reports = [path for path in name.parent.iterdir() if re.match(re.escape(name.name) + r"\.\w", path.name)]
    for path in reports:
        target = path.with_name(former + path.name.removeprefix(name.name))
        if not target.exists():
            path.rename(target)
    return bool(reports)
