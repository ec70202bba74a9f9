"""The demo quantized with the screen of the forced pass is the demo quantized without."""

import os
import re
from pathlib import Path

import pytest
from forking import Forked
from running import PROOFCARD, ROOT, contents, python
from several import small, together
from slurm import free_port

SCREENED = ROOT / "tests" / "screened.py"


def words(*overrides: str) -> list[str]:
    """More batches than datasets and marks: after a dataset's first batch there is something to screen."""
    return [*small("calibration.batch_size=1", *overrides)[1:]]


def shares(errors: str) -> list[tuple[int, float]]:
    """Of each process: batches asked about, and how many of them ran exactly."""
    found = re.findall(r"screened (\d+) batches, ([\d.]+) ran exactly", errors)
    return [(int(batches), float(exact)) for batches, exact in found]


@pytest.mark.parametrize("overrides", [(), ("coverage=top_up", "coverage.minimum_tokens=500")])
def test_the_bytes_and_tables_are_the_same(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    said = [
        python(program, *words(*overrides), cwd=tmp_path / name)
        for program, name in ((SCREENED, "with"), (PROOFCARD, "without"))
        if not (tmp_path / name).mkdir()
    ]
    assert [one.returncode for one in said] == [0, 0], said[0].stderr
    assert contents(tmp_path / "with" / "checkpoint") == contents(tmp_path / "without" / "checkpoint")
    ((batches, exact),) = shares(said[0].stderr)
    assert batches >= 40
    assert exact < 0.5 * batches
    if not overrides:
        port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
        ranks = [
            Forked([str(SCREENED), *words()], tmp_path, os.environ | port | {"RANK": rank}) for rank in "01"
        ]
        status, _, errors = together(ranks)
        assert status == 0, errors
        assert contents(tmp_path / "checkpoint") == contents(tmp_path / "without" / "checkpoint")
        assert sum(batches for batches, _ in shares(errors)) >= 30
