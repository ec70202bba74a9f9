"""The demo quantized with the screen of the forced pass is the demo quantized without."""

import re
from pathlib import Path

from running import ROOT, contents, python
from several import small

SCREENED = ROOT / "tests" / "quantize" / "layerwise" / "screened.py"


def shares(errors: str) -> list[tuple[int, float]]:
    return [
        (int(a), float(b)) for a, b in re.findall(r"screened (\d+) batches, ([\d.]+) ran exactly", errors)
    ]


def test_the_demo_has_the_same_bytes_and_statistics(alone: dict[str, bytes], tmp_path: Path) -> None:
    said = python(SCREENED, *small()[1:], cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert contents(tmp_path / "checkpoint") == alone
    ((batches, exact),) = shares(said.stderr)
    assert batches > 10 and exact < 0.6 * batches
