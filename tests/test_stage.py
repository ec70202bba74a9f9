"""A stage's directory is whole and sealed, or not there."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from children import ended, forked

from proofcard import manifest, stage
from proofcard.documents import Manifest
from proofcard.errors import Stop
from proofcard.locks import Busy

KEY = "ab" * 32
BODY: dict[str, Any] = {
    "stage": "test", "key": KEY, "config": {}, "seeds": {}, "inputs": {}, "toolchain": {}, "platform": {},
    "statistics": {},
}  # fmt: skip


def sealed(final: Path, **files: str) -> Manifest:
    with stage.building(final) as partial:
        for name, text in files.items():
            (partial / name).write_text(text)
        return stage.seal(partial, final, BODY)


def test_sealed_then_found(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "result"
    made = sealed(final, one="1", two="22")
    assert stage.find_sealed(final, KEY) == made == manifest.read(final)
    assert made.outputs.files["two"].size == 2
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
    assert "stale" not in sealed(tmp_path / "result", one="1").outputs.files


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (
        stage.building(tmp_path / "result"),
        pytest.raises(Stop, match=r"process \d+ on .* is writing .*result: wait"),
        stage.building(tmp_path / "result"),
    ):
        pass


def made_once(final: Path) -> None:
    """As a process that needs a directory which another may be making."""

    def make(partial: Path) -> Manifest:
        with (final.parent / "made").open("a") as count:
            count.write("x")
        time.sleep(0.2)
        (partial / "one").write_text("1")
        return stage.seal(partial, final, BODY)

    assert stage.once(final, KEY, make).key == KEY


def test_several_processes_that_need_one_directory_make_it_once(tmp_path: Path) -> None:
    final = tmp_path / "below" / "result"
    final.parent.mkdir()
    assert [ended(pid) for pid in [forked(lambda: made_once(final)) for _ in range(4)]] == [0] * 4
    assert (final.parent / "made").read_text() == "x"
    assert stage.find_sealed(final, KEY)


def test_one_that_fails_leaves_the_directory_to_the_next(tmp_path: Path) -> None:
    def fails(partial: Path) -> Manifest:
        (partial / "half").write_text("")
        time.sleep(0.2)
        raise RuntimeError

    final = tmp_path / "result"
    first = forked(lambda: stage.once(final, KEY, fails))
    second = forked(lambda: made_once(final))
    ended(first)
    assert ended(second) == 0
    assert {path.name for path in final.iterdir()} == {"one", manifest.NAME}


def test_what_stands_needs_no_lock_and_no_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(tmp_path / "result", one="1")
    monkeypatch.setattr(stage, "alone", None)
    assert stage.once(tmp_path / "result", KEY, lambda _: pytest.fail("made again")).key == KEY


def test_what_another_process_has_made_meanwhile_is_not_built_over(tmp_path: Path) -> None:
    sealed(tmp_path / "result", one="1")
    with pytest.raises(Stop, match=r"has made .* in the meantime"), stage.building(tmp_path / "result"):
        pass
    assert (tmp_path / "result" / "one").read_text() == "1"


def test_what_is_being_built_is_known_before_any_work(tmp_path: Path) -> None:
    final = tmp_path / "result"
    stage.check_unused(final)
    with stage.building(final), pytest.raises(Busy, match=f"process {os.getpid()} on "):
        stage.check_unused(final)
    stage.check_unused(final)


def test_somebody_s_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Stop, match="never sealed"):
        stage.find_sealed(tmp_path, KEY)


def test_another_configuration_s_result_is_kept(tmp_path: Path) -> None:
    sealed(tmp_path / "result", one="1")
    with pytest.raises(Stop, match="another configuration"):
        stage.find_sealed(tmp_path / "result", "cd" * 32)


def flip(path: Path, place: int = -1) -> None:
    """One bit of a file, its size and its times as they were."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", ["one", "two", "deep/three"])
def test_a_flipped_bit_is_not_reused_whatever_its_file_s_size_and_times(tmp_path: Path, name: str) -> None:
    final = tmp_path / "result"
    with stage.building(final) as partial:
        (partial / "deep").mkdir()
        for each in ("one", "two", "deep/three"):
            (partial / each).write_text(each)
        stage.seal(partial, final, BODY)
    assert stage.find_sealed(final, KEY) == stage.intact(final)
    flip(final / name)
    with pytest.raises(Stop, match=f"result/{name} differs from what was sealed"):
        stage.find_sealed(final, KEY)
    with pytest.raises(
        Stop, match=f"result/{name} differs from what was sealed: see proofcard verify checkpoint="
    ):
        stage.intact(final)
    assert stage.find_sealed(final, KEY, digests=False) is not None  # of the other ranks: one has read


def test_beside_a_sealed_folder_stands_what_nobody_loads(tmp_path: Path) -> None:
    sealed(tmp_path / "result", one="1")
    for name in ("README.md", ".gitattributes", "LICENSE"):
        (tmp_path / "result" / name).write_text("said by somebody")
    assert stage.intact(tmp_path / "result")
    for name in ("more.safetensors", "chat_template.jinja", "tokenizer.json", "modeling.py"):
        (tmp_path / "result" / name).write_text("{}")
        with pytest.raises(Stop, match=f"{name} was not sealed and would be loaded"):
            stage.intact(tmp_path / "result")
        (tmp_path / "result" / name).unlink()


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
    with pytest.raises(
        Stop, match=f"result/{'extra' if harm == 'extra' else 'one'} differs from what was sealed"
    ):
        stage.find_sealed(final, KEY)


def interrupted(final: Path, key: str, record: bool) -> str:
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
    assert interrupted(final, "one", record=True) == (
        f"the same command resumes after layer 2 (to start over instead, delete {tmp_path}/.result.state)"
    )
    assert stage.taken(final) > 0
    assert found_again(final, "one")
    assert stage.taken(final) == 0  # as after sealing


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Stop("the source is wrong"), False), (ValueError("a bug"), False), (OSError(2, "gone", "x"), False),
        (OSError(28, "full"), True), (OSError(122, "quota"), True), (OSError(116, "stale"), True),
        (RuntimeError("Error: No space left on device (os error 28)"), True), (KeyboardInterrupt(), True),
    ],
)  # fmt: skip
def test_only_what_may_pass_is_said_to_go_on(tmp_path: Path, error: BaseException, again: bool) -> None:
    final = tmp_path / "result"
    with pytest.raises(type(error)), stage.building(final, "one"):
        (stage.state_of(final) / "layer-00001.json").write_text("{}")
        raise error
    [note] = error.__notes__
    assert ("the same command resumes after layer 2" in note) == again
    assert ("uses disk space in" in note) != again
    assert str(stage.state_of(final)) in note


def test_an_interrupt_while_it_begins_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_here(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_begin", interrupted_here)
    with pytest.raises(KeyboardInterrupt), stage.building(tmp_path / "result", "one"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".result.lock"}


def test_without_a_record_nothing_stays(tmp_path: Path) -> None:
    assert interrupted(tmp_path / "result", "one", record=False) == ""
    assert {path.name for path in tmp_path.iterdir()} == {".result.lock"}


def test_another_key_finds_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path / "result", "one", record=True)
    assert not found_again(tmp_path / "result", "another")
    assert "deleting it" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("gone", [".result.partial", ".result.state", ".result.state/key"])
def test_half_of_what_was_kept_is_not_taken_for_the_whole(tmp_path: Path, gone: str) -> None:
    interrupted(tmp_path / "result", "one", record=True)
    lost = tmp_path / gone
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    assert not found_again(tmp_path / "result", "one")


def test_the_manifest_of_an_interrupted_seal_is_no_output(tmp_path: Path) -> None:
    with stage.building(tmp_path / "result") as partial:
        (partial / manifest.NAME).write_text("half")
        (partial / "one").write_text("1")
        assert stage.seal(partial, tmp_path / "result", BODY).outputs.files.keys() == {"one"}
    assert stage.find_sealed(tmp_path / "result", KEY)
