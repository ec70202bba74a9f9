"""The numbers are the same whoever finds them: several ranks, or a run that was killed and went on."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
    """Texts cut to one length; a gate of four experts may round otherwise for more rows."""
    asked = [f"evaluation.text={pair.texts}", "evaluation.sequence_length=8", "hardware.device=cpu"]
    alone = pair.evaluated("alone", *asked, "evaluation.together=1")
    assert alone["texts"]["documents"] == 24
    found = pair.evaluated("together", *asked, "evaluation.together=5")
    assert numbers(pair.folder / "together")[1] == numbers(pair.folder / "alone")[1]
    for one, other in zip(leaves(alone), leaves(found), strict=True):
        assert one == (pytest.approx(other, rel=1e-6) if isinstance(other, float) else other)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    else:
        yield value


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
