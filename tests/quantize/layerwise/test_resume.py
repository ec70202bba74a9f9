"""Records of complete layers."""

from pathlib import Path

from proofcard.quantize.layerwise.resume import Records
from proofcard.ranks import Ranks


def test_records_come_back_in_order_and_only_without_a_gap(tmp_path: Path) -> None:
    records = Records(tmp_path, Ranks())
    assert records.read(3) == []
    for index in (0, 1, 3):
        records.keep(index, {"layer": index, "amax": [0.1, 3e-8]})
    assert records.read(5) == [{"layer": 0, "amax": [0.1, 3e-8]}, {"layer": 1, "amax": [0.1, 3e-8]}]
    assert len(records.read(1)) == 1


def test_only_the_leading_rank_writes(tmp_path: Path) -> None:
    class Second(Ranks):
        def wait(self) -> None:
            pass

    Records(tmp_path, Second(rank=1, count=2)).keep(0, {})
    assert list(tmp_path.iterdir()) == []
