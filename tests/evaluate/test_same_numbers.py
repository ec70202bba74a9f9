"""The numbers are the same whoever finds them: several ranks, or a run that was killed and went on."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from evaluating import Pair
from running import forked
from several import ranks, together

from proofcard.calibration.batches import Batch
from proofcard.checkpoint.source import Source
from proofcard.config import compose
from proofcard.config.evaluating import EvaluateConfig
from proofcard.evaluate.apart import Apart
from proofcard.evaluate.candidates import all_of
from proofcard.evaluate.compute import computes, hidden_of
from proofcard.evaluate.passes import Pass
from proofcard.evaluate.streams import streams
from proofcard.evaluate.weights import Checkpoint
from proofcard.ranks import Ranks


def words(pair: Pair, folder: str) -> list[str]:
    return [
        "evaluate", f"checkpoint={pair.checkpoint}", f"source={pair.source}", *pair.words,
        "hardware.device=cpu", f"output_dir={folder}", f"report={pair.folder / folder}.report",
    ]  # fmt: skip


def numbers(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("evaluation.json", "positions.safetensors")]


def test_two_ranks_find_what_one_does(pair: Pair, evaluation: object) -> None:
    status, _, errors = together(ranks(2 * [["proofcard", *words(pair, "two")]], pair.folder))
    assert status == 0, errors
    assert numbers(pair.folder / "two") == numbers(pair.folder / "whole")


def test_any_number_of_texts_together_finds_the_same(pair: Pair, tmp_path: Path) -> None:
    """As on a GPU: texts cut to one length, experts' products in blocks of rows, everything else by text."""
    whole = passed(pair, tmp_path / "plain", None, 2)
    alone = passed(pair, tmp_path / "alone", Apart(16), 1)
    for count in (2, 3):
        assert alone == passed(pair, tmp_path / str(count), Apart(16), count)
    assert [each.keys() for each in alone[0]] == [each.keys() for each in whole[0]]
    for layer, other in zip(alone[0], whole[0], strict=True):
        for name, sums in layer.items():
            assert np.allclose(np.frombuffer(sums), np.frombuffer(other[name]), rtol=1e-2, equal_nan=True)


def test_how_many_run_together_is_in_no_key(pair: Pair, evaluation: object) -> None:
    said = pair.said("output_dir=whole", "evaluation.together=5")
    assert said.returncode == 0 and "(reused)" in said.stdout, said.stderr


def passed(pair: Pair, folder: Path, apart: Apart | None, count: int) -> tuple[list[dict[str, bytes]], bytes]:
    """Sums and values of a pass over 3 texts of 16 tokens, `count` of them together."""
    source, checkpoint = Source(pair.source), Checkpoint(pair.checkpoint)
    model = compose(EvaluateConfig, "evaluate", ["checkpoint=a", "source=b", *pair.words]).model
    own, theirs = computes(source, checkpoint, model, "cpu")
    own.apart = theirs.apart = apart
    ids = np.random.default_rng(2).integers(1, 250, (3, 1, 16))
    folder.mkdir()
    sums, values = Pass(
        own, theirs, checkpoint, streams(all_of(checkpoint.holds()), cells=True),
        [Batch(each, np.ones_like(each)) for each in ids], folder, hidden_of(source, own.stepper), 1 << 20,
        Ranks(), count,
    ).run(lambda *_: None)  # fmt: skip
    return [{name: array.tobytes() for name, array in each.items()} for each in sums], values.tobytes()


def test_a_killed_run_goes_on_after_its_last_complete_layer(pair: Pair, evaluation: object) -> None:
    for _ in range(5):
        process = forked(*words(pair, "killed"), cwd=pair.folder)
        deadline = time.monotonic() + 120
        while not (pair.folder / ".killed.state" / "layer-00000.json").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if not (pair.folder / "killed").exists():
            break
        shutil.rmtree(pair.folder / "killed")  # it was quicker
    else:
        pytest.fail("it always ended before it was killed")
    again = forked(*words(pair, "killed"), cwd=pair.folder)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "resuming after layer" in errors
    assert numbers(pair.folder / "killed") == numbers(pair.folder / "whole")
