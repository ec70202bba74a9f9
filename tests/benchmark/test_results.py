import pytest

from proofcard.benchmark import results
from proofcard.documents.benchmark import Results, Server
from proofcard.errors import Usage

LOAD = {"input_tokens": 32, "output_tokens": 64}


def made(load) -> Results:
    return Results(name="demo", load=load, serving=None, server=Server(label="a server", key=None))


def finished(folder, name: str = "demo", **load):
    with results.new_folder(folder, name) as partial:
        results.save(partial, made(LOAD | load))
    return results.final(partial)


def test_results_are_numbered_and_never_overwritten(tmp_path) -> None:
    assert [finished(tmp_path).name for _ in range(3)] == ["demo-001", "demo-002", "demo-003"]


def test_what_was_measured_before_an_interrupt_keeps_its_partial_name(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt) as stop, results.new_folder(tmp_path, "demo") as partial:
        results.save(partial, made({}))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["demo-001.partial"]
    assert "demo-001.partial" in stop.value.__notes__[-1]
    assert finished(tmp_path).name == "demo-002"


def test_nothing_measured_leaves_nothing(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), results.new_folder(tmp_path, "demo"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_newest_complete_results_of_the_same_lengths_are_the_earlier_ones(tmp_path) -> None:
    first = finished(tmp_path)
    finished(tmp_path, output_tokens=512)
    (tmp_path / "demo-009.partial").mkdir()
    finished(tmp_path, name="other")
    assert results.earlier(tmp_path, "demo", LOAD) == first
    assert results.earlier(tmp_path, "third", LOAD) is None


def test_a_folder_without_results_is_refused(tmp_path) -> None:
    with pytest.raises(Usage, match="has no benchmark results"):
        results.read(tmp_path)
