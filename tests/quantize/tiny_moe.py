"""A tiny model with experts, and the checkpoint that one process makes of it."""

from pathlib import Path
from typing import NamedTuple

from running import contents, quantize, tiny, tiny_recipe


class TinyMoe(NamedTuple):
    """What to quantize, and what it has to give."""

    recipe: list[str]
    files: dict[str, bytes]

    def words(self, *overrides: str) -> list[str]:
        return ["proofcard", "quantize", "output_dir=checkpoint", *self.recipe, *overrides]


def tiny_moe(folder: Path, texts: Path) -> TinyMoe:
    """Made in the folder."""
    recipe = tiny_recipe(tiny(folder / "source", "qwen3_moe"), texts)
    recipe += ["quantization=nvfp4_mlp_only", "tracking=off", "hardware.device=cpu"]
    return TinyMoe(recipe, contents(quantize(folder, *recipe)))
