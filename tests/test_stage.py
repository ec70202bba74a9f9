"""A stage's directory is whole and sealed, or not there."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import manifest, stage
from pipeline.errors import Stop

KEY = "ab" * 32


def sealed(final: Path, **files: str) -> dict[str, Any]:
    with stage.building(final) as partial:
        for name, text in files.items():
            (partial / name).write_text(text)
        body = {
            "stage": "test", "key": KEY, "config": {}, "seeds": {}, "inputs": {}, "toolchain": {},
            "platform": {}, "statistics": {},
        }  # fmt: skip
        return stage.seal(partial, final, body)


def test_sealed_then_found(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "result"
    made = sealed(final, one="1", two="22")
    assert stage.find_sealed(final, KEY) == made == manifest.read(final)
    assert made["outputs"]["files"]["two"]["size"] == 2
    assert {path.name for path in final.parent.iterdir()} == {"result", ".result.lock"}
    assert (final / "one").stat().st_mode & 0o777 == 0o644


def test_nothing_there_is_nothing_found(tmp_path: Path) -> None:
    assert stage.find_sealed(tmp_path / "absent", KEY) is None
    assert stage.find_sealed(tmp_path, KEY) is None  # an empty folder, as a mounted volume is


def test_an_empty_folder_may_become_the_result(tmp_path: Path) -> None:
    final = tmp_path / "volume"
    final.mkdir()
    sealed(final, one="1")
    assert stage.find_sealed(final, KEY)


def test_a_failure_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    final = tmp_path / "result"
    with pytest.raises(RuntimeError), stage.building(final) as partial:
        (partial / "half").write_text("written")
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == {".result.lock"}


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".result.partial"
    left.mkdir()
    (left / "stale").write_text("")
    assert "stale" not in sealed(tmp_path / "result", one="1")["outputs"]["files"]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (
        stage.building(tmp_path / "result"),
        pytest.raises(Stop, match="another process is writing"),
        stage.building(tmp_path / "result"),
    ):
        pass


def test_somebody_s_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Stop, match="never sealed"):
        stage.find_sealed(tmp_path, KEY)


def test_another_configuration_s_result_is_kept(tmp_path: Path) -> None:
    sealed(tmp_path / "result", one="1")
    with pytest.raises(Stop, match="another configuration"):
        stage.find_sealed(tmp_path / "result", "cd" * 32)


@pytest.mark.parametrize("harm", ["grown", "gone", "extra"])
def test_a_harmed_result_is_not_reused(tmp_path: Path, harm: str) -> None:
    final = tmp_path / "result"
    sealed(final, one="1")
    if harm == "grown":
        (final / "one").write_text("longer")
    elif harm == "gone":
        (final / "one").unlink()
    else:
        (final / "extra").write_text("")
    with pytest.raises(Stop, match=f"result/{'extra' if harm == 'extra' else 'one'} is not what was sealed"):
        stage.find_sealed(final, KEY)
