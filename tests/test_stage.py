"""A stage's directory is whole and sealed, or not there."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from proofcard import manifest, stage
from proofcard.errors import Stop

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


def ended(final: Path, key: str, record: bool) -> str:
    """A run with a state that ends in the middle; returns what it notes on the error."""
    with pytest.raises(KeyboardInterrupt) as error, stage.building(final, key) as partial:
        (partial / "half").write_text("written")
        if record:
            (stage.state_of(final) / "layer-00001.json").write_text("{}")
        raise KeyboardInterrupt
    return "".join(getattr(error.value, "__notes__", []))


def found_again(final: Path, key: str) -> bool:
    with stage.building(final, key) as partial:
        found = (partial / "half").exists()
        assert found == (stage.state_of(final) / "layer-00001.json").exists()
        return found


def test_what_has_a_record_is_found_again_under_its_key_and_said_to_be(tmp_path: Path) -> None:
    final = tmp_path / "result"
    assert ended(final, "one", record=True) == (
        f"the same command goes on after layer 2 (to start over instead, remove {tmp_path}/.result.state)"
    )
    assert stage.taken(final) > 0
    assert found_again(final, "one")
    assert stage.taken(final) == 0  # as after sealing


def test_without_a_record_nothing_stays(tmp_path: Path) -> None:
    assert ended(tmp_path / "result", "one", record=False) == ""
    assert {path.name for path in tmp_path.iterdir()} == {".result.lock"}


def test_another_key_finds_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(tmp_path / "result", "one", record=True)
    assert not found_again(tmp_path / "result", "another")
    assert "it is thrown away" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("gone", [".result.partial", ".result.state", ".result.state/key"])
def test_half_of_what_was_kept_is_not_taken_for_the_whole(tmp_path: Path, gone: str) -> None:
    ended(tmp_path / "result", "one", record=True)
    lost = tmp_path / gone
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    assert not found_again(tmp_path / "result", "one")


def test_the_manifest_of_an_interrupted_seal_is_no_output(tmp_path: Path) -> None:
    with stage.building(tmp_path / "result") as partial:
        (partial / manifest.NAME).write_text("half")
        (partial / "one").write_text("1")
        body = {
            "stage": "test", "key": KEY, "config": {}, "seeds": {}, "inputs": {}, "toolchain": {},
            "platform": {}, "statistics": {},
        }  # fmt: skip
        assert stage.seal(partial, tmp_path / "result", body)["outputs"]["files"].keys() == {"one"}
    assert stage.find_sealed(tmp_path / "result", KEY)
