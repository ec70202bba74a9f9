"""The numbers are the same whoever finds them: several ranks, or a run that was killed and went on."""

import os
import signal
import time
from pathlib import Path

from evaluating import Pair
from running import forked
from several import ranks, together


def words(pair: Pair, folder: str) -> list[str]:
    return [
        "evaluate", f"checkpoint={pair.checkpoint}", f"source={pair.source}", *pair.words,
        "hardware.device=cpu", f"output_dir={folder}", f"report={pair.folder / folder}.report",
    ]  # fmt: skip


def numbers(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("evaluation.json", "positions.safetensors")]


def test_two_ranks_find_what_one_does(pair: Pair, evaluation: object) -> None:
    status, _, errors = together(ranks(2, ["proofcard", *words(pair, "two")], pair.folder))
    assert status == 0, errors
    assert numbers(pair.folder / "two") == numbers(pair.folder / "whole")


def test_any_number_of_texts_together_finds_the_same(pair: Pair) -> None:
    """Texts cut to one length, so that they can run as one."""
    asked = [f"evaluation.text={pair.texts}", "evaluation.sequence_length=8", "hardware.device=cpu"]
    alone = pair.evaluated("alone", *asked, "evaluation.together=1")
    assert alone["texts"]["documents"] == 24
    for count in (5, 24):
        folder = f"together-{count}"
        pair.evaluated(folder, *asked, f"evaluation.together={count}")
        assert numbers(pair.folder / folder) == numbers(pair.folder / "alone")


def test_a_killed_run_goes_on_after_its_last_complete_layer(pair: Pair, evaluation: object) -> None:
    process = forked(*words(pair, "killed"), cwd=pair.folder)
    deadline = time.monotonic() + 120
    while not (pair.folder / ".killed.state" / "layer-00000.json").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    if (pair.folder / "killed").exists():  # it was quicker
        return
    again = forked(*words(pair, "killed"), cwd=pair.folder)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "going on after layer" in errors
    assert numbers(pair.folder / "killed") == numbers(pair.folder / "whole")
