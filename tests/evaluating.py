"""A tiny Mixtral, its checkpoint, and evaluations of it by the real command."""

import json
from pathlib import Path
from typing import Any

from running import command, quantize, tiny, tiny_recipe

QUICK = ["tracking=off", "evaluation.rows=3", "evaluation.resamples=100", "hardware=one_thread"]


class Pair:
    """A source, a checkpoint of it, texts and a file with few of them, and the folder that all are in."""

    def __init__(self, folder: Path, texts: Path) -> None:
        self.folder, self.texts = folder, texts
        self.source = tiny(folder / "source", "mixtral")
        self.recipe = tiny_recipe(self.source, texts)
        self.checkpoint = quantize(folder, *self.recipe)
        self.few = folder / "few.jsonl"
        self.few.write_text("".join(texts.read_text().splitlines(keepends=True)[::5]))
        self.words = ["recipe=local", f"calibration.datasets.text.path={texts}", *QUICK]

    def said(self, *overrides: str, checkpoint: Path | None = None, source: Path | None = None) -> Any:
        """What `evaluate` says of the pair, or of another one."""
        pair = [f"checkpoint={checkpoint or self.checkpoint}", f"source={source or self.source}"]
        return command("evaluate", *pair, *self.words, *overrides, cwd=self.folder)

    def evaluated(self, name: str, *overrides: str, checkpoint: Path | None = None) -> dict[str, Any]:
        """The document of an evaluation in the folder `name`."""
        said = self.said(f"output_dir={name}", *overrides, checkpoint=checkpoint)
        assert said.returncode == 0, said.stderr
        return json.loads((self.folder / name / "evaluation.json").read_text())

    def copied(self, name: str) -> Path:
        """The checkpoint as one that was never sealed, its files to be changed."""
        target = self.folder / name
        target.mkdir()
        for path in self.checkpoint.iterdir():
            if path.name != "manifest.json":
                (target / path.name).write_bytes(path.read_bytes())
        return target


def altered(checkpoint: Path, change: Any) -> None:
    """Change the tensors of an unsealed checkpoint in one file."""
    from safetensors.torch import load_file, save_file

    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})
