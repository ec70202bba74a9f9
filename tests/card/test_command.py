"""`card` as a person meets it: written from documents, and held to them to the last digit."""

import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from card import making

from proofcard.card.command import run
from proofcard.errors import Stop, Usage

OFF = ("tracking=off", "work_dir=runs")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and one document of each kind about it; it is the working folder."""
    made = making.checkpoint(tmp_path)
    making.write(tmp_path, making.documents(made))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def card(*words: str) -> int:
    return run(["checkpoint=checkpoint", *OFF, *words])


def test_every_section_has_its_numbers_and_says_how_far_they_are_shown(place: Path) -> None:
    assert card("license=apache-2.0", "title=A model") == 0
    text = (place / "checkpoint/README.md").read_text()
    for value in (
        "license: apache-2.0", "# A model", "322", "318..325", "it was late", "0.0123 (0.0111 to 0.0135)",
        "0.947",
        "| Result | verified | proven |", "18 of 19", "6 of 13 tasks; 2 files, 51 lines", "reproduced",
        "0.700 (0.630 to 0.770)", "not run: no harness", "2 claims: 1 holds, 1 not checked.",
        "proofcard benchmark",
        "It is sealed.", "32", "4,096",
    ):  # fmt: skip
        assert value in text, value
    assert "a \\[b\\](c)" in text
    assert text.rstrip().endswith("```")
    assert "proofcard verify checkpoint=DIR" in text.split("## Verify it yourself")[1]
    unmeasured = re.findall(r"## ([^\n]+)\n\n\*Not measured", text)
    assert unmeasured == ["Hardware", "Backends"]


def test_nothing_is_asserted_of_what_has_no_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making.checkpoint(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert card() == 0
    text = (tmp_path / "checkpoint/README.md").read_text()
    for title in ("Throughput", "Fidelity to the source", "Tasks", "Agentic build", "Known answers",
                  "Verification", "Reproduction", "Claims"):  # fmt: skip
        body = text.split(f"## {title}\n")[1].split("\n## ")[0]
        assert "*Not measured.*" in body
        assert "proofcard " in body
    assert "| proven |" not in text
    assert "| measured |" in text  # what calibration counted
    assert card("check=true") == 0


def test_a_card_agrees_until_one_character_of_a_number_is_changed(place: Path) -> None:
    card()
    assert card("check=true") == 0
    drawn = random.Random(7)
    for name in ("README.md", "README.html", ".proofcard/card.json", ".eval_results/gpqa_diamond.yaml",
                 ".proofcard/every_eval_ever.json"):  # fmt: skip
        path = place / "checkpoint" / name
        good = path.read_text()
        numbers = making.digits(good)
        for spot in drawn.sample(numbers, 3) if name != ".proofcard/every_eval_ever.json" else numbers[-3:]:
            path.write_text(good[:spot] + str((int(good[spot]) + 1) % 10) + good[spot + 1 :])
            with pytest.raises(Stop) as stop:
                card("check=true")
            assert not isinstance(stop.value, Usage)
            assert path.name in str(stop.value) or "card.json" in str(stop.value)
        path.write_text(good)
    assert card("check=true") == 0


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (".proofcard/benchmark-one.json", "321.5", "421.5"),
        (".proofcard/evaluation.json", "0.0123", "0.0113"),
        (".proofcard/verification.json", '"verified"', '"differs"'),
    ],
)
def test_a_changed_document_is_found_by_the_line_that_it_no_longer_gives(
    place: Path, name: str, old: str, new: str
) -> None:
    card()
    path = place / "checkpoint" / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(Stop, match=r"the card disagrees with its documents: \S+, line \d+, reads "):
        card("check=true")


def test_a_document_that_was_made_anew_asks_for_a_new_card(place: Path) -> None:
    card()
    path = place / "runs/benchmarks/one-001/results.json"
    path.write_text(path.read_text().replace("321.5", "322.5"))
    with pytest.raises(
        Stop, match=r"the card is older than the documents: .*results\.json is no longer what"
    ):
        card("check=true")
    card()
    assert card("check=true") == 0


def test_a_stranger_checks_with_the_folder_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card()
    elsewhere = place / "elsewhere"
    shutil.copytree(place / "checkpoint", elsewhere / "checkpoint")
    monkeypatch.chdir(elsewhere)
    assert card("check=true") == 0


@pytest.mark.parametrize(
    "name", ["README.md", "README.html", ".proofcard/convergence.svg", ".proofcard/tasks-demo.json"]
)
def test_a_file_that_is_gone_is_named(place: Path, name: str) -> None:
    card()
    (place / "checkpoint" / name).unlink()
    with pytest.raises(Stop):
        card("check=true")


def test_documents_of_another_checkpoint_are_left_out_and_refused_beside_the_card(place: Path) -> None:
    path = place / "runs/tasks/demo-001/tasks.json"
    values: dict[str, Any] = making.loaded(path)
    values["candidate"]["key"] = "b" * 64
    making.write(place, {"runs/tasks/demo-001/tasks.json": values})
    card()
    assert not (place / "checkpoint/.proofcard/tasks-demo.json").exists()
    shutil.copy(path, place / "checkpoint/.proofcard/tasks-demo.json")
    with pytest.raises(Stop, match=r"tasks-demo\.json is not a document about this checkpoint"):
        card("check=true")


def test_what_a_former_card_left_goes_and_others_files_stay(place: Path) -> None:
    card()
    folder = place / "checkpoint"
    (folder / ".eval_results/by_hand.yaml").write_text("[]")
    (place / "runs/tasks/demo-001/tasks.json").unlink()
    card()
    assert not (folder / ".proofcard/tasks-demo.json").exists()
    assert (folder / ".eval_results/by_hand.yaml").exists()
    assert card("check=true") == 0


def test_nothing_is_written_through_a_link(place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (outside / "precious.json").write_text("{}")
    (place / "checkpoint/.proofcard").symlink_to(outside)
    with pytest.raises(Stop, match="is a link"):
        card()
    assert [path.name for path in outside.iterdir()] == ["precious.json"]
    assert not (place / "checkpoint/README.md").exists()


def test_a_document_that_is_not_whole_is_one_sentence(place: Path) -> None:
    drawn = random.Random(11)
    refused = 0
    for name, values in making.documents(place / "checkpoint").items():
        for key in drawn.sample([key for key in values if isinstance(values[key], list | dict)], 1):
            making.write(
                place, {name: values | {key: 5} | ({"key": values["key"]} if "key" in values else {})}
            )
            try:
                card()
            except Stop as stop:
                refused += 1
                assert "incomplete" in str(stop)
                assert "\n" not in str(stop)
        making.write(place, {name: values})
    assert refused > 4


def test_what_is_not_a_checkpoint_is_refused(place: Path) -> None:
    for words, sentence in (
        (["checkpoint=nowhere"], "nowhere is not a folder"),
        (["checkpoint=runs"], "never sealed"),
        (["checkpoint=checkpoint", "chek=true"], "unknown key 'chek'"),
    ):
        with pytest.raises(Usage, match=sentence):
            run([*words, *OFF])
    with pytest.raises(Stop, match="has no card: write one with proofcard card checkpoint="):
        card("check=true")


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({"weights": "not requested"}, True),
        ({"weights": "differs"}, False),
        ({"structure": "not checked"}, False),
    ],
)
def test_a_reader_s_own_verification_may_ask_for_less(
    place: Path, change: dict[str, str], agrees: bool
) -> None:
    card()
    path = place / "checkpoint.verification.json"
    values = making.loaded(path)
    for level, result in change.items():
        values["levels"][level]["result"] = result
    making.write(place, {path.name: values})
    if agrees:
        assert card("check=true") == 0
        return
    with pytest.raises(Stop, match="the card is older than the documents"):
        card("check=true")
