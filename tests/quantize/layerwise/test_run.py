"""The loop over layers: every layer reported, and nothing done again that is complete."""

import json
from pathlib import Path
from typing import Any

from running import python, tiny_recipe

from proofcard.checkpoint.tensors import read_folder


def found(what: str, mixtral: Path, texts: Path, cwd: Path) -> list[Any]:
    """What `run_layers.py` finds in the folder."""
    overrides = [*tiny_recipe(mixtral, texts), "tracking=off", "hardware.device=cpu"]
    program = Path(__file__).with_name("run_layers.py")
    said = python(program, what, str(mixtral), *overrides, cwd=cwd)
    assert said.returncode == 0, said.stderr
    written: list[Any] = json.loads((cwd / "found.json").read_text())
    return written


def test_complete_layers_are_reported_and_not_made_again(mixtral: Path, texts: Path, tmp_path: Path) -> None:
    first, second = found("twice", mixtral, texts, tmp_path)
    assert first == second and first[0] == [0, 1, 2]
    assert all(record["amax"] and min(record["amax"]) > 0 for record in first[1])
    assert {path.name for path in (tmp_path / "state").iterdir()} == {
        f"layer-0000{index}.json" for index in range(3)
    }
    assert "model.layers.2.block_sparse_moe.experts.3.w2.weight_scale_2" in read_folder(tmp_path / "folder")


def test_other_work_begins_after_the_first_batches_and_in_any_case(
    mixtral: Path, texts: Path, tmp_path: Path
) -> None:
    """On a GPU, what a thread writes and reads beside them waits for that."""
    seen, ended_with = found("writing", mixtral, texts, tmp_path)
    assert seen == {"15": ([False] * 12 + [True] * 3) * 3, "3": [False] * 9}
    assert ended_with == [True] * 6
