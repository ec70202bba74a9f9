"""The loop over layers: every layer reported, and nothing done again that is complete."""

import json
from pathlib import Path
from typing import Any

from children import ended, forked
from quantize.layerwise.conftest import batch
from running import tiny_recipe

from proofcard.checkpoint.source import Source
from proofcard.checkpoint.tensors import read_folder
from proofcard.config import QuantizeConfig, compose
from proofcard.ranks import Ranks
from proofcard.toolchain import activate, materialise


def test_complete_layers_are_reported_and_not_made_again(mixtral: Path, texts: Path, tmp_path: Path) -> None:
    words = [*tiny_recipe(mixtral, texts), "tracking=off", "hardware.device=cpu"]
    config = compose(QuantizeConfig, "config", words)
    folder, state = tmp_path / "folder", tmp_path / "state"
    for made in (folder, state):
        made.mkdir()

    def work() -> None:
        activate(materialise(config.toolchain.series, tmp_path / "toolchains"))
        from proofcard.quantize.layerwise import run

        for attempt in ("first", "second"):
            seen: list[int] = []
            again = run.Run(config, Source(mixtral), [batch()], "cpu", folder, state, Ranks())
            if attempt == "second":
                run.LayerCalibration = lambda *_: None  # type: ignore[assignment,misc,return-value]
            records = again.layers(lambda index, _, seen=seen: seen.append(index))
            (tmp_path / f"{attempt}.json").write_text(json.dumps([seen, records]))

    assert ended(forked(work)) == 0
    first, second = (
        json.loads((tmp_path / f"{attempt}.json").read_text()) for attempt in ("first", "second")
    )
    assert first == second and first[0] == [0, 1, 2]
    assert all(record["amax"] and min(record["amax"]) > 0 for record in first[1])
    assert {path.name for path in state.iterdir()} == {f"layer-0000{index}.json" for index in range(3)}
    assert "model.layers.2.block_sparse_moe.experts.3.w2.weight_scale_2" in read_folder(folder)


def test_other_work_begins_after_the_first_batches_and_in_any_case(
    mixtral: Path, texts: Path, tmp_path: Path
) -> None:
    """On a GPU, what a thread writes and reads beside them waits for that."""
    words = [*tiny_recipe(mixtral, texts), "tracking=off", "hardware.device=cpu"]
    config = compose(QuantizeConfig, "config", words)

    def work() -> None:
        activate(materialise(config.toolchain.series, tmp_path / "toolchains"))
        from proofcard.quantize.layerwise import run

        waiting: list[Any] = []
        writing = run.Run._writing
        run.Run._writing = lambda self, *said: (waiting.append(said[-1]), writing(self, *said))[1]  # type: ignore[method-assign]
        seen: dict[int, list[bool]] = {}
        for count in (15, 3):
            folder, state = tmp_path / f"folder-{count}", tmp_path / f"state-{count}"
            for made in (folder, state):
                made.mkdir()
            seen[count] = []
            run.Layers.advance = lambda *_, count=count: seen[count].append(waiting[-1].is_set())  # type: ignore[method-assign]
            run.Run(config, Source(mixtral), [batch(1, 2)] * count, "cpu", folder, state, Ranks()).layers(
                lambda *_: None
            )
        (tmp_path / "seen.json").write_text(json.dumps([seen, [event.is_set() for event in waiting]]))

    assert ended(forked(work)) == 0
    seen, ended_with = json.loads((tmp_path / "seen.json").read_text())
    assert seen == {"15": ([False] * 12 + [True] * 3) * 3, "3": [False] * 9}
    assert ended_with == [True] * 6
